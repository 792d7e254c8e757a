"""What packages run on the machine: they keep the program that they replace, stop what they remove, and start nothing unasked."""


def keep(sha256):
    """Before another program takes the place: the present one stays beside it for `k3rs rollback`."""
    return f"""if [ -f /usr/bin/k3rs ] && [ "$(sha256sum < /usr/bin/k3rs | cut -c1-64)" != {sha256} ]; then
  cp -p /usr/bin/k3rs /usr/bin/k3rs.previous.new && mv -f /usr/bin/k3rs.previous.new /usr/bin/k3rs.previous
fi
"""


RESTART = """if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
  systemctl try-restart k3s.service k3s-agent.service || true
fi
if [ -d /run/openrc ]; then
  for service in k3s k3s-agent; do rc-service --ifstarted "$service" restart || true; done
fi
"""

# Pods end with it; the data stay, as after k3s-killall.sh.
STOP = """if [ -d /run/systemd/system ]; then systemctl disable --now k3s.service k3s-agent.service >/dev/null 2>&1 || true; fi
if command -v rc-update >/dev/null 2>&1; then
  for service in k3s k3s-agent; do rc-update delete "$service" default >/dev/null 2>&1 || true; done
fi
/usr/bin/k3s-killall.sh >/dev/null || true
"""

FORGET = """rm -f /usr/bin/k3rs.previous
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
if [ -d /var/lib/rancher/k3s ]; then
  echo "k3rs: the data in /var/lib/rancher/k3s are left (k3rs uninstall, before the package goes, takes them)"
fi
"""
