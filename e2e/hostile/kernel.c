// Ways through system calls that change or read the machine as a whole. Each is called so that it would change nothing.
#include "escape.h"
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/klog.h>
#include <sys/swap.h>
#include <sys/timex.h>
#include <sys/ioctl.h>

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

// Characters put into the terminal of whoever looks at us.
static void terminal(void) {
  for (const char *c = "\n"; *c; c++) ioctl(0, TIOCSTI, c);
  char text[100];
  if (ioctl(0, TIOCCONS) == 0 && isatty(0)) hit("takes the console's output");
  read_text("/dev/console", text, 0);
}

const struct way KERNEL_WAYS[] = {
    {"modules", modules}, {"kexec", kexec}, {"reboot", restart}, {"swap", swap}, {"clock", clocks}, {"log", kernel_log},
    {"bpf", programs},    {"perf", measures}, {"calls", rare_calls}, {"terminal", terminal}, {0, 0},
};
