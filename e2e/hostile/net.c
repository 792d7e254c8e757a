// Ways through the network: the node's own sockets, packets that nobody should send, and an HTTP server that lies.
#include "escape.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

// Sockets without a file have no owner that is asked: whoever shares the network namespace may connect.
static void abstract_sockets(void) {
  char line[400];
  FILE *list = fopen("/proc/net/unix", "r");
  while (list && fgets(line, sizeof line, list)) {
    char *name = strchr(line, '@');
    if (!name || !strstr(name, "k3rs")) continue;
    name[strcspn(name, "\n")] = 0;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int length = strlen(name);
    if (length > 100) continue;
    memcpy(to.sun_path + 1, name + 1, length - 1);
    for (int kind = SOCK_STREAM; kind <= SOCK_SEQPACKET; kind++) {
      int fd = socket(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      if (fd >= 0 && !connect(fd, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + length)) hit("connects to %s", name);
      if (fd >= 0) close(fd);
    }
  }
  if (list) fclose(list);
}

static int connected(const char *address, int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, address, &to.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct timeval limit = {0, 300000};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof to)) return fd;
  close(fd);
  return -1;
}

// What the node serves to itself on loopback must not be reached through an address that pods can use.
static void node_ports(void) {
  char gateway[40] = "", line[300];
  if (getenv("HOST_NETWORK")) return;
  FILE *routes = fopen("/proc/net/route", "r");
  while (routes && fgets(line, sizeof line, routes)) {
    char name[40];
    unsigned destination, via;
    if (sscanf(line, "%39s %x %x", name, &destination, &via) == 3 && !destination) inet_ntop(AF_INET, &via, gateway, sizeof gateway);
  }
  if (routes) fclose(routes);
  int local[] = {10248, 10249, 6444, 10257, 10259, 2379, 2381, 0};
  for (int i = 0; local[i]; i++) {
    int fd = gateway[0] ? connected(gateway, local[i]) : -1;
    if (fd >= 0) close(fd), hit("reaches the node's loopback port %d through %s", local[i], gateway);
  }
  // The kubelet and the API answer strangers with nothing but a refusal.
  int open_ports[] = {6443, 10250, 0};
  for (int i = 0; open_ports[i]; i++) {
    int fd = gateway[0] ? connected(gateway, open_ports[i]) : -1, ignored;
    if (fd < 0) continue;
    ignored = write(fd, "\026\003\001\377\377\001\377", 7);
    ignored = read(fd, line, 100);
    (void)ignored;
    close(fd);
  }
}

static void packets(void) {
  if (getenv("HOST_NETWORK")) return;
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(3));
  if (fd < 0) return;
  unsigned char frame[200];
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex("eth0"), .sll_halen = 6};
  memset(to.sll_addr, 255, 6);
  unsigned kinds[] = {0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x0027, 0x88cc};
  for (int i = 0; i < 300; i++) {
    for (unsigned j = 0; j < sizeof frame; j++) frame[j] = number(256);
    memset(frame, 255, 6);
    unsigned kind = kinds[number(7)];
    frame[12] = kind >> 8, frame[13] = kind;
    if (kind == 0x0800) frame[14] = 0x45;
    sendto(fd, frame, 20 + number(180), 0, (struct sockaddr *)&to, sizeof to);
  }
  close(fd);
}

static unsigned short checksum(const unsigned char *data, int n, unsigned sum) {
  for (int i = 0; i < n; i++) sum += i % 2 ? data[i] : data[i] << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

// Whoever sends raw packets says that it is the router: of the node, and of all pods on the bridge.
static void routers(void) {
  if (getenv("HOST_NETWORK")) return;
  char line[300];
  FILE *routes = fopen("/proc/net/ipv6_route", "r");
  while (routes && fgets(line, sizeof line, routes))
    if (!strncmp(line, "20010db80bad", 12)) hit("another pod has become the router");
  if (routes) fclose(routes);
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x86dd));
  if (fd < 0) return;
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex("eth0"), .sll_halen = 6}, own;
  socklen_t size = sizeof own;
  if (bind(fd, (struct sockaddr *)&to, sizeof to) || getsockname(fd, (struct sockaddr *)&own, &size)) return;
  const unsigned char *mac = own.sll_addr;
  unsigned char frame[14 + 40 + 16 + 32 + 8] = {0x33, 0x33, 0, 0, 0, 1}, *ip = frame + 14, *said = ip + 40;
  memcpy(frame + 6, mac, 6), frame[12] = 0x86, frame[13] = 0xdd;
  ip[0] = 0x60, ip[5] = 56, ip[6] = 58, ip[7] = 255;
  unsigned char link_local[16] = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
  memcpy(ip + 8, link_local, 16), ip[24] = 0xff, ip[25] = 2, ip[39] = 1;
  // An advertisement, a router for half an hour; a prefix; where it is.
  said[0] = 134, said[4] = 64, said[6] = 1800 >> 8, said[7] = 1800 & 255;
  said[16] = 3, said[17] = 4, said[18] = 64, said[19] = 0xc0, said[22] = said[23] = said[26] = said[27] = 200;
  memcpy(said + 32, "\x20\x01\x0d\xb8\x0b\xad", 6);
  said[48] = 1, said[49] = 1, memcpy(said + 50, mac, 6);
  unsigned sum = 56 + 58;
  for (int i = 0; i < 32; i += 2) sum += ip[8 + i] << 8 | ip[9 + i];
  unsigned short check = checksum(said, 56, sum);
  said[2] = check >> 8, said[3] = check;
  for (int i = 0; i < 3; i++) sendto(fd, frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to);
  close(fd);
}

// The own network namespace may be turned inside out; the watcher looks whether anything of the host's did.
static void links(void) {
  if (getenv("HOST_NETWORK")) return;
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 12 /* netfilter */);
  if (fd < 0) return;
  unsigned char text[300];
  for (int i = 0; i < 200; i++) {
    for (unsigned j = 0; j < sizeof text; j++) text[j] = number(256);
    *(unsigned *)text = 20 + number(250);
    *(unsigned short *)(text + 4) = 0x0a00 | number(30);
    *(unsigned short *)(text + 6) = 5;
    send(fd, text, *(unsigned *)text, MSG_DONTWAIT);
  }
  close(fd);
}

void serve(int port) {
  signal(SIGPIPE, SIG_IGN);
  static char block[1 << 16];
  memset(block, 'x', sizeof block);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 20)) return;
  for (unsigned turn = 0;; turn++) {
    int fd = accept4(listener, 0, 0, SOCK_CLOEXEC), ignored = 0;
    if (fd < 0) continue;
    struct timeval limit = {2, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ignored = read(fd, block, 2000);
    memset(block, 'x', 2000);
    const char *answers[] = {
        "HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:6443/api/v1/secrets\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: ",
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    };
    unsigned which = turn % 8;
    ignored = write(fd, answers[which], strlen(answers[which]));
    for (int i = 0; which >= 2 && which <= 5 && i < 300; i++)
      if (write(fd, block, sizeof block) < 0) break;
    (void)ignored;
    close(fd);
  }
}

const struct way NET_WAYS[] = {
    {"sockets", abstract_sockets}, {"ports", node_ports}, {"packets", packets}, {"routers", routers}, {"netlink", links}, {0, 0},
};
