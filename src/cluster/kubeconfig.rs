//! kubeconfig files: the administrator's with everything inside, the components' with paths.

use wire::base64::encode;

/// How to reach the API and who one is there.
#[derive(Debug)]
pub struct Kubeconfig<'a> {
    pub server_url: &'a str,
    pub ca_pem: &'a str,
    pub certificate: &'a crate::Certificate,
}

impl Kubeconfig<'_> {
    /// The administrator's file as k3s writes it: cluster, user and context `default`, data inline.
    pub fn to_yaml(&self) -> String {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: {}\n  name: default\n\
             contexts:\n- context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\n\
             kind: Config\npreferences: {{}}\nusers:\n- name: default\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            encode(self.ca_pem.as_bytes()),
            self.server_url,
            encode(self.certificate.chain_pem.as_bytes()),
            encode(self.certificate.key_pem.as_bytes()),
        )
    }
}

/// A component's file: the certificates stay in their own files.
pub fn component(server_url: &str, ca: &str, certificate: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    server: {server_url}\n    certificate-authority: {ca}\n  name: local\n\
         contexts:\n- context:\n    cluster: local\n    namespace: default\n    user: user\n  name: Default\ncurrent-context: Default\n\
         kind: Config\npreferences: {{}}\nusers:\n- name: user\n  user:\n    client-certificate: {certificate}\n    client-key: {key}\n"
    )
}
