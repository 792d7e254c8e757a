// Ways through files: handles, links, chroot, places that the node reads again, and too much of everything.
#include "escape.h"
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

// ext4's root has inode 2 and needs no generation; xfs 128, btrfs 256, tmpfs 1.
static void handles(void) {
  const char *places[] = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log", "/v/data", "/", 0};
  unsigned inodes[] = {2, 128, 256, 1};
  for (int i = 0; places[i]; i++) {
    int mount = open(places[i], O_RDONLY | O_CLOEXEC);
    if (mount < 0) continue;
    for (int j = 0; j < 4; j++) {
      struct {
        unsigned bytes;
        int type;
        unsigned words[4];
      } handle = {8, 1, {inodes[j], 0}};
      int fd = syscall(SYS_open_by_handle_at, mount, &handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (fd < 0) continue;
      look_at(fd, "a file handle");
      close(fd);
    }
    close(mount);
  }
}

static void out_of_chroot(void) {
  mkdir("/tmp/x", 0777);
  int old = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (chroot("/tmp/x")) return;
  if (old >= 0 && fchdir(old)) return;
  for (int i = 0; i < 100; i++)
    if (chdir("..")) return;
  int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (here >= 0) look_at(here, "chroot and ..");
  if (!chroot(".")) look("");
}

// Paths of the host that a container has no business to see at the same place, and dots out of every mount.
static void dots(void) {
  look("");
  const char *places[] = {"/v/data", "/v/host", "/v/config", "/v/secret", "/v/sub", "/etc/hosts", "/dev/shm", "/dev/pts", "/dev/mqueue", "/sys/fs/cgroup", 0};
  for (int i = 0; places[i]; i++) {
    char path[600] = "";
    int n = snprintf(path, sizeof path, "%s", places[i]);
    for (int j = 0; j < 20; j++) n += snprintf(path + n, sizeof path - n, "/..");
    look(path);
  }
  // A mount may have been moved from under us.
  const char *subs[] = {"/v/sub", "/v/sub2", 0};
  for (int i = 0; subs[i]; i++) {
    char path[100], text[300];
    snprintf(path, sizeof path, "%s/secret", subs[i]);
    if (read_text(path, text, sizeof text) > 0 && strstr(text, mark)) hit("a subPath leads to the host: %.60s", text);
    snprintf(path, sizeof path, "%s/pwned", subs[i]);
    struct stat parent;
    if (!stat(subs[i], &parent) && S_ISDIR(parent.st_mode)) {
      int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
      if (fd >= 0) close(fd);
    }
  }
}

// What should be read-only is.
static void read_only(void) {
  const char *places[] = {"/v/config", "/v/secret", "/v/token", "/v/info", "/v/all", "/v/readonly", "/var/run/secrets/kubernetes.io/serviceaccount", 0};
  for (int i = 0; places[i]; i++) {
    char path[200];
    snprintf(path, sizeof path, "%s/written", places[i]);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd), hit("writes %s", path);
  }
}

// The things at the places that the node reads, replaced by what it should not follow, wait for or read whole.
static void places_that_are_read(void) {
  const char *files[] = {"/dev/termination-log", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", 0};
  for (int i = 0; files[i]; i++) {
    char aside[100], link[700];
    snprintf(aside, sizeof aside, "%s.old", files[i]);
    snprintf(link, sizeof link, "%s/secret", canary ? canary : "");
    if (!rename(files[i], aside) || !unlink(files[i])) {
      int ignored = number(3) ? symlink(link, files[i]) : mkfifo(files[i], 0666);
      (void)ignored;
    }
    int fd = open(files[i], O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    // Sparse: it takes no disk, only the memory of whoever reads it whole.
    int ignored = i == 2 ? 0 : ftruncate(fd, 2ll << 30);
    ignored = fchmod(fd, 06777);
    (void)ignored;
    close(fd);
  }
  // For the next start of a container on this root.
  const char *databases[] = {"/etc/passwd", "/etc/group", 0};
  for (int i = 0; databases[i]; i++) {
    unlink(databases[i]);
    int kind = number(3), ignored;
    if (kind == 0) ignored = mkfifo(databases[i], 0666);
    else if (kind == 1) ignored = symlink("/proc/self/mem", databases[i]);
    else ignored = mkdir(databases[i], 0777);
    (void)ignored;
  }
}

void swap_links(int seconds) {
  char path[100], other[100];
  const char *places[] = {"/v/data", "/v/host", "/v/memory", "/v/claim", "/v/shared", 0};
  time_t end = time(0) + seconds;
  for (int i = 0; places[i]; i++) {
    snprintf(path, sizeof path, "%s/d", places[i]);
    snprintf(other, sizeof other, "%s/l", places[i]);
    mkdir(path, 0777);
    int ignored = symlink(canary ? canary : "/", other);
    (void)ignored;
  }
  while (time(0) < end) {
    for (int i = 0; places[i]; i++) {
      snprintf(path, sizeof path, "%s/d", places[i]);
      snprintf(other, sizeof other, "%s/l", places[i]);
      syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, 2 /* exchange */);
    }
    usleep(number(2000));
  }
}

static void volumes_left_behind(void) {
  // A start after a crash, or the deletion of the pod, meets these.
  const char *places[] = {"/v/data", "/v/memory", "/v/claim", 0};
  for (int i = 0; places[i]; i++) {
    char path[200];
    if (chdir(places[i])) continue;
    int ignored = symlink(canary ? canary : "/", "to-the-host") | mkfifo("fifo", 0666) | mkdir("closed", 0);
    ignored |= open("\377\n\1 name", O_CREAT | O_WRONLY, 0);
    memset(path, 'x', 199), path[199] = 0;
    ignored |= mkdir(path, 01777);
    int fd = open("file", O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    ignored |= link("file", "again");
    unsigned flags = 0x30; // immutable, append only
    if (fd >= 0) ignored |= ioctl(fd, 0x40086602, &flags);
    (void)ignored;
  }
}

// Deep, many, large: each bounded, so that the host of the tests stays usable.
void exhaust(const char *what) {
  static char block[1 << 16];
  memset(block, 'x', sizeof block);
  if (!strcmp(what, "deep")) {
    if (chdir("/v/data")) return;
    for (int i = 0; i < 15000; i++)
      if (mkdir("a", 0777) || chdir("a")) break;
    if (chdir("/tmp")) return;
    for (int i = 0; i < 15000; i++)
      if (mkdir("a", 0777) || chdir("a")) break;
  } else if (!strcmp(what, "many")) {
    char name[40];
    if (chdir("/v/data")) return;
    for (int i = 0; i < 30000; i++) {
      snprintf(name, sizeof name, "f%d", i);
      int fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
      if (fd < 0) break;
      close(fd);
    }
  } else if (!strcmp(what, "log")) {
    // Lines without an end, lines of nothing, and as fast as the pipe takes them.
    for (time_t end = time(0) + 6; time(0) < end;) {
      memset(block, number(3) ? 'x' : '\n', sizeof block);
      if (write(1, block, sizeof block) < 0) break;
    }
  } else if (!strcmp(what, "message")) {
    int fd = open("/dev/termination-log", O_WRONLY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < 2000; i++)
      if (write(fd, block, sizeof block) < 0) break;
    exit(3);
  } else if (!strcmp(what, "hosts")) {
    int fd = open("/etc/hosts", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && !ftruncate(fd, 2ll << 30)) sleep(1);
    exit(3);
  } else if (!strcmp(what, "processes")) {
    for (int i = 0; i < 400; i++)
      if (!fork()) {
        sleep(8);
        _exit(0);
      }
  } else if (!strcmp(what, "memory")) {
    for (int i = 0; i < 1 << 14; i++) {
      char *got = malloc(sizeof block);
      if (!got) break;
      memset(got, 1, sizeof block);
    }
  } else if (!strcmp(what, "shm")) {
    int fd = open("/dev/shm/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    for (int i = 0; fd >= 0 && i < 1 << 12; i++)
      if (write(fd, block, sizeof block) < 0) break;
  } else if (!strcmp(what, "inotify")) {
    // Counted by user, and root's are the node's own: also those that it gives up while it starts again.
    for (int n = 0; n < 10000; usleep(1000)) {
      while (n < 10000 && syscall(SYS_inotify_init1, O_CLOEXEC) >= 0) n++;
      if (number(100) == 0) printf("exhausted\n"), fflush(stdout);
    }
  } else if (!strcmp(what, "descriptors")) {
    for (int i = 0; i < 20000; i++)
      if (open("/", O_RDONLY) < 0) break;
    sleep(5);
  }
  printf("exhausted\n"), fflush(stdout);
  sleep(1000);
}

const struct way FILE_WAYS[] = {
    {"handles", handles}, {"chroot", out_of_chroot}, {"dots", dots}, {"read-only", read_only}, {"places", places_that_are_read}, {"left", volumes_left_behind}, {0, 0},
};
