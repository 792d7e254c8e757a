// Ways through mounts, cgroups and device files.
#include "escape.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif

// Files that belong to the whole machine. Only opened, never written.
static const char *const SYSCTLS[] = {
    "sys/kernel/core_pattern", "sys/kernel/modprobe", "sys/kernel/sysrq", "sys/kernel/panic", "sys/kernel/printk", "sys/kernel/randomize_va_space",
    "sys/kernel/poweroff_cmd", "sys/kernel/hotplug", "sys/kernel/perf_event_paranoid", "sys/kernel/usermodehelper/bset", "sys/vm/overcommit_memory",
    "sys/vm/drop_caches", "sys/vm/panic_on_oom", "sys/fs/file-max", "sys/fs/suid_dumpable", "sys/fs/protected_symlinks", "sys/fs/binfmt_misc/register",
    "sys/dev/cdrom/lock", "sysrq-trigger", "irq/default_smp_affinity", 0};
static const char *const SYSFS[] = {
    "kernel/uevent_helper", "kernel/profiling", "kernel/mm/transparent_hugepage/enabled", "kernel/mm/ksm/run", "kernel/uevent_seqnum",
    "power/state", "block/vda/queue/scheduler", "block/vda/uevent", "module/kernel/parameters/panic", "devices/system/cpu/cpu1/online", "bus/cpu/drivers_autoprobe", 0};

static int writes(const char *root, const char *const *files) {
  char path[300];
  int found = 0;
  for (int i = 0; files[i]; i++) {
    snprintf(path, sizeof path, "%s/%s", root, files[i]);
    if (writable(path)) hit("opens %s for writing", path), found++;
  }
  return found;
}

static void sysctls(void) { writes("/proc", SYSCTLS); }
static void sysfs(void) { writes("/sys", SYSFS); }

// What is hidden must be empty or absent.
static void masked(void) {
  const char *files[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats", 0};
  const char *directories[] = {"/sys/firmware", "/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/devices/virtual/powercap", 0};
  char text[100];
  for (int i = 0; files[i]; i++)
    if (read_text(files[i], text, sizeof text) > 0) hit("reads %s", files[i]);
  for (int i = 0; directories[i]; i++) {
    DIR *dir = opendir(directories[i]);
    if (!dir) continue;
    for (struct dirent *entry; (entry = readdir(dir));)
      if (entry->d_name[0] != '.') {
        hit("lists %s", directories[i]);
        break;
      }
    closedir(dir);
  }
}

static void cgroup_at(const char *root, int depth) {
  const char *files[] = {"cgroup.procs", "release_agent", "notify_on_release", "memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us",
                         "pids.max", "devices.allow", "freezer.state", "cgroup.freeze", "cgroup.kill", "cgroup.subtree_control", "cpuset.cpus", 0};
  char path[600];
  for (int i = 0; files[i]; i++) {
    snprintf(path, sizeof path, "%s/%s", root, files[i]);
    if (writable(path)) hit("opens %s for writing", path);
  }
  DIR *dir = depth < 3 ? opendir(root) : 0;
  if (!dir) return;
  for (struct dirent *entry; (entry = readdir(dir));) {
    if (entry->d_name[0] == '.' || entry->d_type != DT_DIR) continue;
    snprintf(path, sizeof path, "%s/%.200s", root, entry->d_name);
    if (mkdirat(dirfd(dir), "escape", 0755) == 0) hit("makes a cgroup in %s", root), unlinkat(dirfd(dir), "escape", AT_REMOVEDIR);
    cgroup_at(path, depth + 1);
  }
  closedir(dir);
}
// Limits of our own that we may lift: the same value is written again. A file system that delegates lets us open, but not write.
static void own_limits(const char *root) {
  const char *files[] = {"memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us", "pids.max", "cpuset.cpus", "devices.allow", 0};
  char path[300], text[100];
  for (int i = 0; files[i]; i++) {
    snprintf(path, sizeof path, "%s/%s", root, files[i]);
    int n = read_text(path, text, sizeof text), fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) continue;
    if (n > 0 && write(fd, text, n) == n) hit("sets its own %s", path);
    close(fd);
  }
}
static void cgroups(void) { cgroup_at("/sys/fs/cgroup", 0); }

// The host's disks, memory, log and the like, by number, in every place that may not be `nodev`.
static void devices(void) {
  struct {
    mode_t kind;
    int major, minor;
  } known[] = {{S_IFCHR, 1, 1}, {S_IFCHR, 1, 2}, {S_IFCHR, 1, 4}, {S_IFCHR, 1, 11}, {S_IFCHR, 4, 0}, {S_IFCHR, 4, 64}, {S_IFCHR, 5, 1}, {S_IFCHR, 7, 0},
               {S_IFCHR, 10, 237}, {S_IFCHR, 10, 229}, {S_IFCHR, 10, 232}, {S_IFCHR, 10, 200}, {S_IFCHR, 10, 183}, {S_IFCHR, 10, 223}, {S_IFBLK, 7, 0},
               {S_IFBLK, 254, 0}, {S_IFBLK, 253, 0}, {S_IFBLK, 8, 0}, {S_IFBLK, 259, 0}};
  const char *places[] = {"/dev", "/tmp", "/v/data", "/v/memory", "/v/host", "/v/claim", "/dev/shm", 0};
  char path[100], line[200];
  for (int i = 0; places[i]; i++) {
    snprintf(path, sizeof path, "%s/device", places[i]);
    for (unsigned j = 0; j < sizeof known / sizeof *known; j++) {
      unlink(path);
      if (mknod(path, known[j].kind | 0600, makedev(known[j].major, known[j].minor))) continue;
      int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
      if (fd >= 0) close(fd), hit("opens device %c %d:%d in %s", known[j].kind == S_IFBLK ? 'b' : 'c', known[j].major, known[j].minor, places[i]);
    }
    FILE *disks = fopen("/proc/partitions", "r");
    while (disks && fgets(line, sizeof line, disks)) {
      int major, minor;
      if (sscanf(line, "%d %d", &major, &minor) != 2) continue;
      unlink(path);
      if (mknod(path, S_IFBLK | 0600, makedev(major, minor))) break;
      int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
      if (fd >= 0) close(fd), hit("opens disk %d:%d in %s", major, minor, places[i]);
      mkdir("/tmp/disk", 0700);
      if (!mount(path, "/tmp/disk", "ext4", MS_RDONLY, "")) hit("mounts disk %d:%d", major, minor), look("/tmp/disk");
    }
    if (disks) fclose(disks);
    unlink(path);
  }
}

static void try_mounts(void) {
  const char *kinds[] = {"proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "debugfs", "tracefs", "securityfs", "bpf", "binfmt_misc", "configfs", "fusectl", "efivarfs", "nfsd", "tmpfs", "devpts", 0};
  mkdir("/tmp/m", 0700);
  for (int i = 0; kinds[i]; i++) {
    if (mount(kinds[i], "/tmp/m", kinds[i], 0, "") && mount(kinds[i], "/tmp/m", kinds[i], 0, "devices")) continue;
    hit("mounts %s", kinds[i]);
    if (!strcmp(kinds[i], "proc")) writes("/tmp/m", SYSCTLS);
    if (!strcmp(kinds[i], "sysfs")) writes("/tmp/m", SYSFS);
    if (!strncmp(kinds[i], "cgroup", 6)) cgroup_at("/tmp/m", 0);
    umount2("/tmp/m", MNT_DETACH);
  }
  int fd = syscall(SYS_fsopen, "proc", 1);
  if (fd >= 0) {
    if (!syscall(SYS_fsconfig, fd, 6 /* create */, 0, 0, 0)) {
      int made = syscall(SYS_fsmount, fd, 1, 0);
      if (made >= 0) hit("makes a proc without mount()"), close(made);
    }
    close(fd);
  }
}

static void mounts(void) { try_mounts(); }

// Uncovering what is hidden, making writable what is not, moving what is mounted.
static void remounts(void) {
  const char *covers[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/sys", "/proc/sysrq-trigger", "/proc/acpi", "/etc/hosts", "/dev/shm", "/sys/fs/cgroup", "/sys", "/proc", 0};
  for (int i = 0; covers[i]; i++) {
    if (!mount("", covers[i], "", MS_REMOUNT | MS_BIND, "")) hit("remounts %s writable", covers[i]);
    if (!umount2(covers[i], MNT_DETACH)) hit("unmounts %s", covers[i]);
  }
  if (!mount("", "/", "", MS_REMOUNT, "")) hit("remounts the root");
  if (!mount("/", "/tmp", "", MS_BIND | MS_REC, "")) hit("binds the root");
  int tree = syscall(SYS_open_tree, AT_FDCWD, "/", 1 | O_CLOEXEC | 0x8000);
  if (tree >= 0) hit("clones the tree of mounts"), close(tree);
  const char *more[] = {"/v/readonly", "/v/config", "/v/secret", 0};
  for (int i = 0; more[i]; i++)
    if (!mount("", more[i], "", MS_REMOUNT | MS_BIND, "")) hit("remounts %s writable", more[i]);
  look("");
}

static void write_line(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC), ignored = 0;
  if (fd >= 0) ignored = write(fd, text, strlen(text)), close(fd);
  (void)ignored;
}

// The old hierarchies: the agent that the kernel starts as the host's root, and devices, which limits of ours say.
static void old_cgroups(const char *at) {
  const char *controllers[] = {"memory", "devices", "pids", "freezer", "cpu", "cpu,cpuacct", "cpuset", "blkio", "rdma", "misc", 0};
  char path[100];
  for (int i = 0; controllers[i]; i++) {
    if (mount("cgroup", at, "cgroup", 0, controllers[i])) continue;
    snprintf(path, sizeof path, "%s/release_agent", at);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "/no such agent", 14) > 0) hit("sets the release agent of %s", controllers[i]);
    if (fd >= 0) close(fd);
    snprintf(path, sizeof path, "%s/devices.allow", at);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "b *:* rwm", 9) > 0) hit("allows itself every device");
    if (fd >= 0) close(fd);
    umount2(at, MNT_DETACH);
  }
}

// A user namespace of our own gives every capability, but over nothing of the host's.
static void user_namespace(void) {
  int uid = getuid(), gid = getgid();
  char map[60];
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) && unshare(CLONE_NEWUSER | CLONE_NEWNS)) return;
  snprintf(map, sizeof map, "0 %d 1", uid);
  write_line("/proc/self/setgroups", "deny");
  write_line("/proc/self/uid_map", map);
  snprintf(map, sizeof map, "0 %d 1", gid);
  write_line("/proc/self/gid_map", map);
  if (fork()) {
    wait(0);
    return;
  }
  mount("", "/", "", MS_REC | MS_PRIVATE, "");
  mkdir("/tmp/u", 0700);
  // What is masked must stay so: neither uncovered nor seen through a new proc or sysfs.
  const char *covers[] = {"/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/sys", "/proc/acpi", 0};
  for (int i = 0; covers[i]; i++)
    if (!umount2(covers[i], MNT_DETACH)) hit("uncovers %s in a user namespace", covers[i]);
  if (!mount("proc", "/tmp/u", "proc", 0, "")) {
    writes("/tmp/u", SYSCTLS);
    char text[20];
    if (read_text("/tmp/u/keys", text, sizeof text) > 0) hit("reads keys through a proc of its own");
    umount2("/tmp/u", MNT_DETACH);
  }
  if (!mount("sysfs", "/tmp/u", "sysfs", 0, "")) writes("/tmp/u", SYSFS), umount2("/tmp/u", MNT_DETACH);
  if (!mount("cgroup2", "/tmp/u", "cgroup2", 0, "")) own_limits("/tmp/u"), umount2("/tmp/u", MNT_DETACH);
  old_cgroups("/tmp/u");
  // Since Linux 6.11 a handle may be opened by who rules over a mount; what it leads to must be below that.
  FILE_WAYS[0].run();
  if (!mount("", "/sys", "", MS_REMOUNT | MS_BIND, "")) hit("remounts /sys writable in a user namespace");
  if (!mount("", "/v/readonly", "", MS_REMOUNT | MS_BIND, "")) hit("remounts /v/readonly writable in a user namespace");
  masked();
  sysctls();
  look("");
  if (!chroot("/proc/self/root")) look("");
  _exit(0);
}

static void pivot(void) {
  if (unshare(CLONE_NEWNS)) return;
  mkdir("/tmp/new", 0700), mkdir("/tmp/new/old", 0700);
  if (mount("tmpfs", "/tmp/new", "tmpfs", 0, "") || mkdir("/tmp/new/old", 0700)) return;
  if (syscall(SYS_pivot_root, "/tmp/new", "/tmp/new/old")) return;
  look("/old");
  look("/old/..");
}

const struct way MOUNT_WAYS[] = {
    {"sysctls", sysctls}, {"sysfs", sysfs}, {"masked", masked}, {"cgroups", cgroups}, {"devices", devices}, {"user-namespace", user_namespace},
    {"pivot", pivot}, {"mounts", mounts}, {"remounts", remounts}, {0, 0},
};
