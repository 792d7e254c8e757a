// A hostile container's only program: it tries the known ways out and says `HIT way: what` for each that leads anywhere.
//
//   escape run SECONDS SEED   every way once, then the races until the time is over, then again
//   escape once SEED          every way once (what exec runs)
//   escape watch SECONDS      only looks at processes that join
//   escape swap SECONDS       only exchanges links and directories in the volumes
//   escape exhaust WHAT       takes as much as it gets of something
//   escape serve PORT         an HTTP server that probes and proxies should not talk to
//   escape sleep SECONDS      does nothing
#include "escape.h"
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

const char *way_name = "start", *canary, *token, *mark;
static unsigned state = 1;

unsigned number(unsigned below) {
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return state % below;
}

void hit(const char *format, ...) {
  char line[900];
  int n = snprintf(line, 200, "HIT %s: ", way_name);
  va_list list;
  va_start(list, format);
  n += vsnprintf(line + n, sizeof line - n - 2, format, list);
  va_end(list);
  if (n > (int)sizeof line - 2) n = sizeof line - 2;
  for (int i = 0; i < n; i++)
    if ((unsigned char)line[i] < ' ') line[i] = ' ';
  // Once is enough; the races would say it a thousand times a second.
  static unsigned said[512];
  unsigned hash = 5381;
  for (int i = 0; i < n; i++)
    if (line[i] < '0' || line[i] > '9') hash = hash * 33 + line[i];
  for (int i = 0; i < 8; i++) {
    unsigned *place = &said[(hash + i) % 512];
    if (*place == hash) return;
    if (!*place) {
      *place = hash;
      break;
    }
  }
  line[n++] = '\n';
  if (write(1, line, n) < 0) _exit(9);
}

int read_text(const char *path, char *text, int size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return -1;
  int n = read(fd, text, size - 1);
  close(fd);
  text[n > 0 ? n : 0] = 0;
  return n;
}

int writable(const char *path) {
  int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return 0;
  close(fd);
  return 1;
}

static void look_below(int at, const char *root, const char *what) {
  char path[1200], text[300];
  const char *files[] = {"/secret", "", 0};
  for (int i = 0; files[i]; i++) {
    const char *base = i == 0 ? canary : token;
    if (!base) continue;
    snprintf(path, sizeof path, "%s%s%s", root, root[0] || at < 0 ? base : base + 1, files[i]);
    int fd = openat(at < 0 ? AT_FDCWD : at, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    int n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    close(fd);
    if (i == 0 ? strstr(text, mark) != 0 : !strncmp(text, "K10", 3)) hit("reads %s (through %s): %.60s", path, what, text);
  }
  if (!canary) return;
  snprintf(path, sizeof path, "%s%s/secret", root, root[0] || at < 0 ? canary : canary + 1);
  int fd = openat(at < 0 ? AT_FDCWD : at, path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0) close(fd), hit("may write %s (through %s)", path, what);
}

void look(const char *root) { look_below(-1, root, root); }
void look_at(int fd, const char *what) { look_below(fd, "", what); }

// Nothing but the three standard descriptors may be open, and none of them leads to a file or directory of another mount.
static void descriptors(void) {
  way_name = "descriptors";
  DIR *dir = opendir("/proc/self/fd");
  if (!dir) return;
  static char mounts[200000];
  read_text("/proc/self/mountinfo", mounts, sizeof mounts);
  for (struct dirent *entry; (entry = readdir(dir));) {
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(dir)) continue;
    char path[80], target[300] = "", text[500];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, target, sizeof target - 1) < 0) continue;
    if (fd > 2) hit("descriptor %d is open: %s", fd, target);
    struct stat stat;
    if (fstat(fd, &stat) || !(S_ISDIR(stat.st_mode) || S_ISREG(stat.st_mode))) continue;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    read_text(path, text, sizeof text);
    char *id = strstr(text, "mnt_id:");
    int mount = id ? atoi(id + 7) : 0, known = 0;
    for (char *line = mounts; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : 0) known |= atoi(line) == mount;
    if (!known) hit("descriptor %d is of a foreign mount: %s", fd, target);
  }
  closedir(dir);
}

// Each way in a process of its own, which may crash, hang or change its namespaces.
static void one(const struct way *way) {
  fflush(0);
  pid_t child = fork();
  if (child < 0) return;
  if (!child) {
    alarm(4);
    way_name = way->name;
    way->run();
    _exit(0);
  }
  for (int i = 0; i < 500; i++) {
    int status;
    if (waitpid(child, &status, WNOHANG) == child) return;
    usleep(10000);
  }
  kill(child, SIGKILL);
  waitpid(child, 0, 0);
}

static void all(void) {
  const struct way *lists[] = {FILE_WAYS, PROCESS_WAYS, KERNEL_WAYS, MOUNT_WAYS, NET_WAYS};
  for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++)
    for (const struct way *way = lists[i]; way->name; way++) {
      struct timespec from, to;
      clock_gettime(CLOCK_MONOTONIC, &from);
      one(way);
      clock_gettime(CLOCK_MONOTONIC, &to);
      if (to.tv_sec - from.tv_sec >= 2) printf("%s took %ld s\n", way->name, (long)(to.tv_sec - from.tv_sec)), fflush(stdout);
    }
}

static void reap(int signal) {
  (void)signal;
  int saved = errno;
  while (waitpid(-1, 0, WNOHANG) > 0) {}
  errno = saved;
}

static pid_t in_background(void (*run)(int), int seconds, const char *name) {
  pid_t child = fork();
  if (child) return child;
  way_name = name;
  run(seconds);
  _exit(0);
}

int main(int count, char **words) {
  canary = getenv("CANARY"), token = getenv("TOKEN"), mark = getenv("MARK");
  if (!mark || !*mark) mark = "no mark was given";
  const char *verb = count > 1 ? words[1] : "run";
  int seconds = count > 2 ? atoi(words[2]) : 5;
  state = count > 3 ? atoi(words[3]) * 2654435761u + 1 : 1 + time(0);
  if (!state) state = 1;
  if (!strcmp(verb, "gained")) {
    char text[4000];
    way_name = "setuid";
    read_text("/proc/self/status", text, sizeof text);
    char *effective = strstr(text, "CapEff:");
    if (geteuid() == 0) hit("%s gives root under no_new_privs", words[0]);
    if (effective && strtoull(effective + 7, 0, 16)) hit("%s gives capabilities under no_new_privs", words[0]);
    return 0;
  }
  // The first thing: later we open files ourselves.
  descriptors();
  if (!strcmp(verb, "sleep")) {
    signal(SIGCHLD, reap);
    for (time_t end = time(0) + seconds; time(0) < end;) sleep(1);
  } else if (!strcmp(verb, "watch")) {
    way_name = "joiners";
    watch_processes(seconds);
  } else if (!strcmp(verb, "swap")) {
    way_name = "links";
    swap_links(seconds);
  } else if (!strcmp(verb, "exhaust")) {
    exhaust(count > 2 ? words[2] : "");
  } else if (!strcmp(verb, "serve")) {
    serve(seconds);
  } else if (!strcmp(verb, "once")) {
    all();
    printf("tried\n");
  } else {
    // As long as the container runs; the first process of a namespace takes everything with it when it ends.
    time_t end = time(0) + seconds;
    in_background(serve, 8080, "serve");
    pid_t watcher = in_background(watch_processes, seconds, "joiners");
    pid_t swapper = in_background(swap_links, seconds, "links");
    do {
      all();
      printf("tried\n"), fflush(stdout);
      sleep(4);
    } while (time(0) < end);
    kill(watcher, SIGKILL), kill(swapper, SIGKILL);
    for (;;) reap(0), sleep(1);
  }
  return 0;
}
