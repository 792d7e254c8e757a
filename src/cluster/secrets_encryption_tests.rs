//! The stages in which keys change, and what each leaves in the files.

use super::*;
use std::sync::Mutex as Words;

/// Says what it was asked for.
#[derive(Default)]
struct Told(Words<Vec<&'static str>>);

impl Sealing for Told {
    fn reload(&self) -> Result<()> {
        self.0.lock().unwrap().push("reload");
        Ok(())
    }
    fn reencrypt(&self) -> BoxFuture<'_, Result<usize>> {
        self.0.lock().unwrap().push("reencrypt");
        Box::pin(async { Ok(3) })
    }
    fn save(&self) -> BoxFuture<'_, Result<()>> {
        self.0.lock().unwrap().push("save");
        Box::pin(async { Ok(()) })
    }
    fn take(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async { Ok(false) })
    }
}

struct Nobody;

impl client::Api for Nobody {
    fn call(&self, _: client::Request) -> BoxFuture<'_, Result<client::Answer, Status>> {
        Box::pin(async { Err(Status::unavailable("nobody")) })
    }
    fn watch(
        &self,
        _: client::Request,
    ) -> BoxFuture<'_, Result<Box<dyn client::WatchStream>, Status>> {
        Box::pin(async { Err(Status::unavailable("nobody")) })
    }
}

/// The providers and how many keys each has, and the stage.
fn state(paths: &Paths) -> String {
    let files = Files(paths);
    let shown = |provider: &Value| match provider.get("identity") {
        Some(_) => "identity".to_owned(),
        None => {
            let n = |name: &str| provider.list(&format!("{name}.keys")).len();
            format!("aescbc {} secretbox {}", n("aescbc"), n("secretbox"))
        }
    };
    let providers: Vec<String> = files.providers().unwrap().unwrap().iter().map(shown).collect();
    let (stage, hash) = files.stage().unwrap();
    let fits = if files.hash().unwrap() == hash { "" } else { " (another hash)" };
    format!("{stage}{fits}: {}", providers.join(", "))
}

#[test]
fn keys_change_in_k3s_stages() {
    let dir = std::env::temp_dir().join(format!("cluster-secrets-{}", std::process::id()));
    let paths = Paths::new(&dir);
    assert!(prepare(&paths, "aescbc").unwrap());
    let first = rt::fs::read_text(paths.cred(CONFIG_FILE)).unwrap();
    assert!(!prepare(&paths, "aescbc").unwrap());
    assert_eq!(rt::fs::read_text(paths.cred(CONFIG_FILE)).unwrap(), first, "made once");
    assert!(first.contains("\"name\":\"aescbckey\""), "{first}");
    let told = Arc::new(Told::default());
    let with = |provider: Option<&str>| {
        SecretsEncryption::new(Setup {
            paths: paths.clone(),
            provider: provider.map(str::to_owned),
            sealing: Arc::clone(&told) as _,
            client: Client::new(Arc::new(Nobody)),
            node: None,
            shared: false,
        })
    };
    let own = with(Some("aescbc"));
    let other = with(Some("secretbox"));
    rt::block_on(async {
        for (by, request, wanted) in [
            (&own, json!({"stage": "rotate"}), "incorrect stage: start found on node this server"),
            (&own, json!({"stage": "nonsense"}), "unknown stage nonsense requested"),
            (&own, json!({"stage": "prepare"}), "prepare: aescbc 2 secretbox 0, identity"),
            (
                &own,
                json!({"stage": "prepare"}),
                "incorrect stage: prepare found on node this server",
            ),
            (&own, json!({"stage": "rotate"}), "rotate: aescbc 2 secretbox 0, identity"),
            (
                &own,
                json!({"stage": "reencrypt_active", "skip": true}),
                "rotate: aescbc 2 secretbox 0, identity",
            ),
            (
                &own,
                json!({"stage": "reencrypt_active"}),
                "reencrypt_finished: aescbc 1 secretbox 0, identity",
            ),
            (
                &own,
                json!({"stage": "rotate_keys"}),
                "reencrypt_finished: aescbc 1 secretbox 0, identity",
            ),
            (
                &other,
                json!({"stage": "prepare"}),
                "prepare does not support secretbox key type, use rotate-keys instead",
            ),
            (
                &other,
                json!({"stage": "rotate_keys"}),
                "reencrypt_finished: aescbc 0 secretbox 1, identity",
            ),
            (&own, json!({"enable": false}), "reencrypt_finished: identity, aescbc 0 secretbox 1"),
            (
                &own,
                json!({"enable": true}),
                "cannot enable secrets encryption with aescbc key type, no keys found",
            ),
            (&other, json!({"enable": true}), "reencrypt_finished: aescbc 0 secretbox 1, identity"),
            (&other, json!({"enable": true}), "reencrypt_finished: aescbc 0 secretbox 1, identity"),
        ] {
            let done = by.change(request.to_string().as_bytes()).await;
            let found = done.map_or_else(|status| status.message().to_owned(), |()| state(&paths));
            assert_eq!(found, wanted, "{request}");
        }
        let last = rt::fs::read_text(paths.cred(CONFIG_FILE)).unwrap();
        assert!(!last.contains("\"aescbckey\""), "the first key is gone: {last}");
        let status = other.status().await.unwrap();
        assert!(
            status.str("activekey").starts_with("XSalsa20-POLY1305 secretboxkey-2"),
            "{status}"
        );
        assert!(status.flag("enable") && status.flag("hashmatch") && !status.has("inactivekeys"));
        // Somebody edits the file: it is told, and the next step refused.
        rt::fs::write(paths.cred(CONFIG_FILE), format!("{last} ").as_bytes(), 0o600).unwrap();
        let status = other.status().await.unwrap();
        assert!(status.has("hashmatch") && !status.flag("hashmatch"), "{status}");
        assert!(status.str("hasherror").starts_with("invalid hash: "), "{status}");
        let refused = other.change(b"{\"stage\": \"rotate_keys\"}").await.unwrap_err();
        assert!(refused.message().starts_with("invalid hash: "), "{refused}");
        let off = with(None);
        assert!(
            off.change(b"{\"enable\": true}")
                .await
                .unwrap_err()
                .message()
                .contains("--secrets-encryption")
        );
        assert!(!off.status().await.unwrap().flag("enable"));
    });
    let n = |what: &str| told.0.lock().unwrap().iter().filter(|word| **word == what).count();
    assert_eq!(n("reencrypt"), 6, "{:?}", told.0);
    assert!(n("save") >= 8 && n("reload") >= 8);
    rt::fs::remove_dir_all(&dir).unwrap();
}
