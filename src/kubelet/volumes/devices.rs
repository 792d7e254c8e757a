//! Volumes without a file system, as devices of containers.

use api::{Lens, Value};
use runtime::Device;
use stdx::OrdMap;

use super::setup::Mounted;

/// The volumes without a file system that a container asks for.
///
/// # Errors
/// If the pod has no such device.
pub(crate) fn block_devices(
    spec: &Value,
    mounted: Option<&OrdMap<String, Mounted>>,
    container: &str,
) -> Result<Vec<Device>, String> {
    let mut devices = Vec::new();
    for entry in spec.list("volumeDevices") {
        let name = entry.str("name");
        let found = mounted.and_then(|mounted| mounted.get(name)).filter(|volume| volume.block);
        let Some(found) = found else {
            return Err(format!(
                "cannot find volume \"{name}\" to pass into container \"{container}\""
            ));
        };
        devices.push(Device {
            host_path: found.path.clone(),
            container_path: match entry.str("devicePath") {
                path if path.starts_with('/') => path.to_owned(),
                path => format!("/{path}"),
            },
            permissions: if found.read_only { "r" } else { "rwm" }.to_owned(),
        });
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn only_devices_are_passed_as_devices() {
        let spec = json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]});
        let volume = |block| Mounted { path: "/p".into(), read_only: true, block };
        let of = |block| OrdMap::from_iter([("v".to_owned(), volume(block))]);
        let devices = block_devices(&spec, Some(&of(true)), "c").unwrap();
        let found = (devices[0].container_path.as_str(), devices[0].permissions.as_str());
        assert_eq!(found, ("/dev/x", "r"));
        let refused = "cannot find volume \"v\" to pass into container \"c\"";
        assert_eq!(block_devices(&spec, Some(&of(false)), "c").unwrap_err(), refused);
        assert_eq!(block_devices(&spec, None, "c").unwrap_err(), refused);
    }
}
