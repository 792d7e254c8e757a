"""Images for the tests, packed from Debian packages into archives as `docker save` writes them."""

import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

# The web server and the libraries it is linked against.
NGINX = ["nginx", "nginx-common", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g"]

NGINX_CONF = """
worker_processes 1;
daemon off;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path /tmp; proxy_temp_path /tmp; fastcgi_temp_path /tmp; uwsgi_temp_path /tmp; scgi_temp_path /tmp;
  server { listen 80; location / { root /www; } location /version { return 200 "$hostname VERSION\\n"; } }
}
"""


def archive(root, path, name, config):
    """Packs a directory as a one-layer image archive."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, arcname=".", filter=lambda info: (setattr(info, "uid", 0), setattr(info, "gid", 0), setattr(info, "mtime", 0), info)[-1])
    layer = layer.getvalue()
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for entry, data in ((config_name, config), (f"{digest}/layer.tar", layer), ("manifest.json", manifest)):
            info = tarfile.TarInfo(entry)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def unpack(work, packages):
    """A root directory with these packages in it."""
    root = work / "root"
    root.mkdir()
    download = ["apt-get", "download", "-q", *packages]
    if subprocess.run(download, cwd=work, capture_output=True).returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], capture_output=True)
        subprocess.run(download, cwd=work, check=True, capture_output=True)
    for package in sorted(work.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
    for useless in ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/lib/x86_64-linux-gnu/gconv"):
        shutil.rmtree(root / useless, ignore_errors=True)
    for name in ("proc", "sys", "dev", "tmp", "etc", "var"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/false\nwww-data:x:33:33::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n")
    return root


def nginx(directory, versions=("1", "2")):
    """`e2e/nginx:VERSION` archives in `directory`; each answers /version with its own."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-image-"))
    try:
        root = unpack(work, NGINX)
        for name in ("www", "var/log/nginx", "var/lib/nginx"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "www/index.html").write_text("hello from nginx\n")
        for version in versions:
            (root / "etc/nginx/nginx.conf").write_text(NGINX_CONF.replace("VERSION", version))
            archive(root, directory / f"nginx-{version}.tar", f"docker.io/e2e/nginx:{version}", {"Entrypoint": ["/usr/sbin/nginx"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}})
    finally:
        shutil.rmtree(work)
