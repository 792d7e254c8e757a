// Ways through system calls that change or read the machine as a whole. Each is called so that it would change nothing.
#include "escape.h"
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/klog.h>
#include <sys/swap.h>
#include <sys/timex.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

// Anything but a refusal by right means that the call would have been done.
static void refused(const char *what, long result) {
  if (result >= 0 || (errno != EPERM && errno != ENOSYS && errno != EACCES)) hit("%s is not refused: %s", what, result >= 0 ? "done" : strerror(errno));
}

static void modules(void) {
  refused("init_module", syscall(SYS_init_module, "", 0, ""));
  refused("finit_module", syscall(SYS_finit_module, 0, "", 0));
  refused("delete_module", syscall(SYS_delete_module, "no such module", 0));
}

static void kexec(void) { refused("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0)); }
// Wrong magic: the right is asked for first.
static void restart(void) { refused("reboot", syscall(SYS_reboot, 1, 2, 3, 0)); }
static void swap(void) { refused("swapon", swapon("/no such file", 0)); }

static void clocks(void) {
  struct timex now = {0};
  if (adjtimex(&now) < 0) return;
  now.modes = ADJ_TICK;
  refused("adjtimex", adjtimex(&now));
}

static void kernel_log(void) {
  char text[4096];
  if (read_text("/proc/sys/kernel/dmesg_restrict", text, 20) > 0 && text[0] == '0') return;
  if (klogctl(3, text, sizeof text) > 0) hit("reads the kernel's log");
}

static void programs(void) {
  union bpf_attr attr = {0};
  attr.map_type = BPF_MAP_TYPE_ARRAY, attr.key_size = 4, attr.value_size = 4, attr.max_entries = 1;
  int fd = syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr);
  if (fd >= 0) hit("makes a BPF map"), close(fd);
  union bpf_attr next = {0};
  if (!syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &next, sizeof next)) hit("lists the node's BPF programs");
}

static void measures(void) {
  struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_CPU_CLOCK};
  int fd = syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0);
  if (fd >= 0) hit("measures a whole processor"), close(fd);
}

static void rare_calls(void) {
  syscall(SYS_userfaultfd, O_CLOEXEC);
  char parameters[120] = {0};
  int ring = syscall(425 /* io_uring_setup */, 4, parameters);
  if (ring >= 0) close(ring);
  refused("lookup_dcookie", syscall(SYS_lookup_dcookie, 1l, parameters, 100));
  refused("acct", syscall(SYS_acct, "/no such file"));
#ifdef SYS_iopl
  refused("iopl", syscall(SYS_iopl, 3));
#endif
}

// A filter must hold for every way in which the kernel takes calls, and for what goes round them.
static void filters(void) {
  char text[4000];
  read_text("/proc/self/status", text, sizeof text);
  char *mode = strstr(text, "Seccomp:");
  if (!mode || atoi(mode + 8) != 2) return;
  refused("keyctl under a filter", syscall(SYS_keyctl, 0, -3, 0));
  refused("userfaultfd under a filter", syscall(SYS_userfaultfd, O_CLOEXEC | 1));
  char parameters[120] = {0};
  refused("io_uring_setup under a filter", syscall(425, 4, parameters));
  refused("a socket to the hypervisor under a filter", socket(40 /* AF_VSOCK */, SOCK_STREAM, 0));
#ifdef __x86_64__
  refused("keyctl as x32 under a filter", syscall(0x40000000 | SYS_keyctl, 0, -3, 0));
  // Where the kernel has no 32-bit calls this ends the process, which is as good.
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(288l /* keyctl */), "b"(0l), "c"(-3l), "d"(0l) : "memory", "r8", "r9", "r10", "r11");
  errno = result < 0 ? -result : 0;
  refused("keyctl as i386 under a filter", result < 0 ? -1 : 0);
#endif
}

// Whoever the kernel would rather kill must not say that it should be the node instead.
static void spared(void) {
  char text[20];
  if (read_text("/proc/self/oom_score_adj", text, sizeof text) <= 0 || atoi(text) < 0) return;
  const char *wishes[] = {"-1000", "-999", "-500", "-1", 0};
  for (int i = 0; wishes[i]; i++) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, wishes[i], strlen(wishes[i])) > 0) hit("is killed for memory after the node: %s instead of %d", wishes[i], atoi(text));
    if (fd >= 0) close(fd);
  }
}

// Events of a whole file system: what others do to the host's files, by name.
static void file_system_events(void) {
  int fd = syscall(SYS_fanotify_init, 0x201u /* FAN_CLOEXEC, FAN_REPORT_FID */, O_RDONLY);
  if (fd < 0) return;
  if (!syscall(SYS_fanotify_mark, fd, 0x101u /* add, file system */, 0x2l /* modify */, AT_FDCWD, "/etc/hosts")) hit("watches the host's file system");
  if (!syscall(SYS_fanotify_mark, fd, 0x11u /* add, mount */, 0x2l, AT_FDCWD, "/etc/hosts")) hit("watches a mount of the host");
  close(fd);
}

// Characters put into the terminal of whoever looks at us.
static void terminal(void) {
  for (const char *c = "\n"; *c; c++) ioctl(0, TIOCSTI, c);
  char text[100];
  if (ioctl(0, TIOCCONS) == 0 && isatty(0)) hit("takes the console's output");
  read_text("/dev/console", text, 0);
}

const struct way KERNEL_WAYS[] = {
    {"modules", modules}, {"kexec", kexec}, {"reboot", restart}, {"swap", swap}, {"clock", clocks}, {"log", kernel_log},
    {"bpf", programs},    {"perf", measures}, {"calls", rare_calls}, {"terminal", terminal},
    {"filters", filters}, {"spared", spared}, {"events", file_system_events}, {0, 0},
};
