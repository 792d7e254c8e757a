"""A pod that serves: `/` says hello from it, `/cgi-bin/who` who it is and who asks, `/big` a lot."""

POD = """---
apiVersion: v1
kind: Pod
metadata: {name: %(name)s, labels: {app: %(name)s}}
spec:
  nodeName: %(node)s
  hostNetwork: %(host_network)s
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: k3rs.io/userspace:1
    command:
    - sh
    - -c
    - |
      mkdir -p /www/cgi-bin
      printf '#!/bin/sh\\necho\\necho "%(name)s to $REMOTE_ADDR"\\n' >/www/cgi-bin/who
      chmod +x /www/cgi-bin/who
      head -c 300000 /dev/zero >/www/big
      echo hello from %(name)s | tee /www/index.html
      exec httpd -f -p %(port)d -h /www
    readinessProbe: {httpGet: {port: %(port)d}, periodSeconds: 1}
"""


def serving(name, node, more="", port=8080, host_network=False):
    """The pod as YAML; `more` are lines of its container."""
    values = {"name": name, "node": node, "port": port, "host_network": str(host_network).lower()}
    return POD % values + "".join(f"    {line}\n" for line in more.splitlines())
