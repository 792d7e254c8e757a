// Ways through other processes: /proc of whoever is visible, ptrace, namespaces, keyrings, signals, setuid programs.
#include "escape.h"
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

static int is_server(int pid) {
  char path[80], name[64];
  snprintf(path, sizeof path, "/proc/%d/comm", pid);
  return read_text(path, name, sizeof name) > 0 && !strncmp(name, "k3rs", 4);
}

// What was just done to a process counts if it is still the node's: an exec is the container's own program a moment later.
#define hit_server(pid, ...) (is_server(pid) ? (void)(hit(__VA_ARGS__)) : (void)0)

static int uid_of(int pid) {
  char path[80], text[2000];
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  char *at = read_text(path, text, sizeof text) > 0 ? strstr(text, "Uid:") : 0;
  return at ? atoi(at + 4) : -1;
}

// A program that runs cannot be written, but as soon as it does not run any more: that counts, unless it is a sealed copy or on a mount for reading.
static int not_sealed(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  int seals = fcntl(fd, 1034 /* get seals */);
  struct statvfs of;
  if (!fstatvfs(fd, &of) && of.f_flag & ST_RDONLY) seals = 8;
  close(fd);
  if (seals >= 0 && seals & 8 /* write */) return 0;
  fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd >= 0) close(fd);
  return fd >= 0 || errno == ETXTBSY;
}

// Whether one of `n` bytes of variables, each with its NUL, begins so.
static int has_variable(const char *text, int n, const char *start) {
  for (int at = 0; at < n; at += (int)strnlen(text + at, n - at) + 1)
    if (!strncmp(text + at, start, strlen(start))) return 1;
  return 0;
}

// `deep` also tries what takes time or disturbs the process.
static void inspect(int pid, int deep) {
  char path[120], text[600];
  snprintf(path, sizeof path, "/proc/%d/root", pid);
  look(path);
  snprintf(path, sizeof path, "/proc/%d/cwd/../../../../../../../..", pid);
  look(path);
  if (!is_server(pid)) return;
  // Here somebody of the node's stands in our PID namespace.
  snprintf(path, sizeof path, "/proc/%d/environ", pid);
  // Where programs are is no secret, nor what a container was given itself that runs the node's program as its own.
  int n = read_text(path, text, sizeof text);
  int own = n > 0 && has_variable(text, n, "CAPABILITIES=");
  if (n > 0 && !own && (strncmp(text, "PATH=", 5) || (int)strlen(text) + 1 < n)) hit_server(pid, "reads the environment of k3rs, process %d: %.80s", pid, text);
  snprintf(path, sizeof path, "/proc/%d/exe", pid);
  if (not_sealed(path)) hit_server(pid, "may write the program file of k3rs, process %d", pid);
  snprintf(path, sizeof path, "/proc/%d/mem", pid);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd >= 0) close(fd), hit_server(pid, "opens the memory of k3rs, process %d", pid);
  const char *directories[] = {"fd", "map_files", 0};
  for (int i = 0; directories[i]; i++) {
    snprintf(path, sizeof path, "/proc/%d/%s", pid, directories[i]);
    DIR *dir = opendir(path);
    if (!dir) continue;
    for (struct dirent *entry; (entry = readdir(dir));) {
      if (entry->d_name[0] == '.') continue;
      snprintf(path, sizeof path, "/proc/%d/%s/%.60s", pid, directories[i], entry->d_name);
      struct stat stat_of;
      char target[200] = "";
      if (stat(path, &stat_of) || readlink(path, target, sizeof target - 1) < 0) continue;
      if (i == 0 ? S_ISDIR(stat_of.st_mode) || S_ISBLK(stat_of.st_mode) || !strncmp(target, "mnt:", 4) : deep && writable(path)) hit_server(pid, "reaches %s of k3rs: %s", path, target);
    }
    closedir(dir);
  }
  if (!ptrace(PTRACE_SEIZE, pid, 0, 0)) {
    hit_server(pid, "traces k3rs, process %d", pid);
    // Only what has stopped can be let go, and its parent does not hear of its end before. Some keep it.
    int status;
    if (!getenv("HARD") && !ptrace(PTRACE_INTERRUPT, pid, 0, 0))
      for (int i = 0; i < 500 && !waitpid(pid, &status, __WALL | WNOHANG); i++) usleep(1000);
    ptrace(PTRACE_DETACH, pid, 0, 0);
  }
}

static void visible(void) {
  DIR *dir = opendir("/proc");
  if (!dir) return;
  for (struct dirent *entry; (entry = readdir(dir));) {
    int pid = atoi(entry->d_name);
    if (pid > 0 && pid != getpid()) inspect(pid, 1);
  }
  closedir(dir);
}

void watch_processes(int seconds) {
  char text[200], path[80];
  time_t end = time(0) + seconds;
  int newest = 2;
  while (time(0) < end) {
    for (int pid = newest > 3 ? newest - 2 : 1; pid < newest + 20; pid++) {
      snprintf(path, sizeof path, "/proc/%d/stat", pid);
      if (pid != getpid() && !access(path, F_OK)) inspect(pid, 0);
    }
    if (read_text("/proc/loadavg", text, sizeof text) > 0 && strrchr(text, ' ')) newest = atoi(strrchr(text, ' ') + 1);
    // One watcher in a pod may take a processor; the others leave it to the rest of the node.
    if (!getenv("HARD") || number(4) == 0) usleep(getenv("HARD") ? 1000 : 3000);
  }
}

static void enter_others(void) {
  char path[80];
  const char *kinds[] = {"user", "mnt", "cgroup", "net", "ipc", "uts", 0};
  char own[100], theirs[100];
  DIR *dir = opendir("/proc");
  for (struct dirent *entry; dir && (entry = readdir(dir));)
    for (int i = 0, pid = atoi(entry->d_name); pid > 0 && kinds[i]; i++) {
      snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
      int n = readlink(path, own, sizeof own - 1);
      snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, kinds[i]);
      int m = readlink(path, theirs, sizeof theirs - 1);
      if (n < 0 || m < 0 || (n == m && !memcmp(own, theirs, n))) continue;
      int fd = open(path, O_RDONLY | O_CLOEXEC);
      if (fd < 0) continue;
      if (!fork()) {
        if (!setns(fd, 0)) look("");
        _exit(0);
      }
      wait(0);
      close(fd);
    }
}

#define KEY_DESCRIBE 6
#define KEY_READ 11
#define KEY_GET_ID 0
static int keys_seen;
static void keys_of(long ring, int depth) {
  char text[400] = "", payload[400] = "";
  if (syscall(SYS_keyctl, KEY_DESCRIBE, ring, text, sizeof text - 1) < 0) return;
  int ids[64];
  if (!strncmp(text, "keyring;", 8)) {
    long n = syscall(SYS_keyctl, KEY_READ, ring, ids, sizeof ids);
    for (int i = 0; depth < 4 && i < n / 4 && i < 64 && keys_seen++ < 200; i++) keys_of(ids[i], depth + 1);
    return;
  }
  if (syscall(SYS_keyctl, KEY_READ, ring, payload, sizeof payload - 1) > 0 && strstr(payload, mark)) hit("reads key %s: %.60s", text, payload);
}

// -1: thread's, -2: process's, -3: session's, -4: user's, -5: the user's session's.
static void keyrings(void) {
  for (int ring = -1; ring >= -5; ring--) keys_of(ring, 0);
  char line[300];
  FILE *keys = fopen("/proc/keys", "r");
  for (int i = 0; keys && i < 500 && fgets(line, sizeof line, keys); i++) keys_of(strtol(line, 0, 16), 2);
}

static void setuid_programs(void) {
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || geteuid() == 0) return;
  const char *programs[] = {"/escape-setuid", "/escape-capable", 0};
  for (int i = 0; programs[i]; i++) {
    if (!fork()) {
      execl(programs[i], programs[i], "gained", (char *)0);
      _exit(1);
    }
    wait(0);
  }
  if (!setuid(0)) hit("becomes root under no_new_privs");
}

// 0 asks only whether it would be allowed, as it is among processes of one user.
static void signals(void) {
  DIR *dir = opendir("/proc");
  for (struct dirent *entry; dir && (entry = readdir(dir));) {
    int pid = atoi(entry->d_name);
    if (pid > 1 && is_server(pid) && uid_of(pid) != (int)geteuid() && !kill(pid, 0)) hit_server(pid, "may signal k3rs, process %d", pid);
  }
}

// The bounding set and the filters hold for what they are said to hold for.
static void grown_capabilities(void) {
  char text[4000];
  read_text("/proc/self/status", text, sizeof text);
  char *effective = strstr(text, "CapEff:"), *bounding = strstr(text, "CapBnd:");
  const char *allowed = getenv("CAPABILITIES");
  if (!effective || !bounding || !allowed) return;
  unsigned long long may = strtoull(allowed, 0, 16), has = strtoull(effective + 7, 0, 16) | strtoull(bounding + 7, 0, 16);
  if (has & ~may) hit("has capabilities %llx, given were %llx", has, may);
}

const struct way PROCESS_WAYS[] = {
    {"visible", visible},   {"namespaces", enter_others},          {"keyrings", keyrings},
    {"setuid", setuid_programs}, {"signals", signals}, {"capabilities", grown_capabilities}, {0, 0},
};
