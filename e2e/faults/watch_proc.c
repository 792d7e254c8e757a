// Looks, in a loop, at every process of its PID namespace for files of the host, and prints what it finds.
// Arguments: seconds, a path that only the host has, capabilities (hex) that no process may have.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int hits, seen;

static void hit(int pid, const char *what, const char *text) {
  printf("HIT pid %d: %s %.100s\n", pid, what, text);
  fflush(stdout);
  hits++;
}

static void look(int pid, const char *host, unsigned long long forbidden) {
  char path[300], text[4096];
  const char *roots[] = {"root", "cwd"};
  for (int i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "/proc/%d/%s%s", pid, roots[i], host);
    if (access(path, F_OK) == 0) hit(pid, roots[i], host);
  }
  snprintf(path, sizeof path, "/proc/%d/mountinfo", pid);
  int file = open(path, O_RDONLY);
  if (file >= 0) {
    long n = read(file, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    // The first mount of a container is its root; the host's is a device's.
    if (strstr(text, " / / ") && strstr(text, " - ext4 ")) {
      char *line = strstr(text, " / / ");
      char *end = strchr(line, '\n');
      if (end) *end = 0;
      if (strstr(line, " - ext4 ")) hit(pid, "mountinfo", line);
    }
    close(file);
  }
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  file = open(path, O_RDONLY);
  if (file >= 0) {
    long n = read(file, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    seen++;
    const char *sets[] = {"CapEff:", "CapPrm:"};
    for (int i = 0; i < 2; i++) {
      char *at = strstr(text, sets[i]);
      if (at && (strtoull(at + 7, 0, 16) & forbidden)) hit(pid, sets[i], at);
    }
    close(file);
  }
  // Nobody's program may be opened for writing but the image's.
  snprintf(path, sizeof path, "/proc/%d/exe", pid);
  // Held, so that what is named and what is changed is one file, whatever the process does meanwhile.
  int program = open(path, O_RDONLY);
  char held[64];
  snprintf(held, sizeof held, "/proc/self/fd/%d", program);
  long n = program < 0 ? -1 : readlink(held, text, sizeof text - 1);
  if (n > 0) {
    text[n] = 0;
    // A running file is busy: its mode can be set where it could be written later. The root of a detached mount is "/".
    if ((strstr(text, "k3rs") || !strcmp(text, "/")) && fchmod(program, 0755) == 0) hit(pid, "exe", text);
  }
  if (program >= 0) close(program);
  for (int fd = 3; fd < 24; fd++) {
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    n = readlink(path, text, sizeof text - 1);
    if (n <= 0) continue;
    text[n] = 0;
    if (!strncmp(text, "/", 1) || !strncmp(text, "mnt:", 4) || !strncmp(text, "pid:", 4)) {
      // Those of a container lead into its root.
      if (pid != getpid() && strstr(text, "k3rs")) hit(pid, "fd", text);
      if (!strncmp(text, "mnt:", 4) || !strncmp(text, "pid:", 4)) hit(pid, "fd", text);
    }
  }
}

int main(int count, char **args) {
  if (count < 4) return 2;
  time_t end = time(0) + atoi(args[1]);
  unsigned long long forbidden = strtoull(args[3], 0, 16);
  int last = 2;
  printf("watching\n");
  fflush(stdout);
  while (time(0) < end && hits < 5 && access("/tmp/stop", F_OK)) {
    look(1, args[2], forbidden);
    for (int pid = last > 3 ? last - 3 : 2; pid < last + 40; pid++) look(pid, args[2], forbidden);
    char text[200];
    int file = open("/proc/loadavg", O_RDONLY);
    long n = read(file, text, sizeof text - 1);
    close(file);
    text[n > 0 ? n : 0] = 0;
    char *word = strrchr(text, ' ');
    if (word) last = atoi(word + 1);
    if (last < 2) last = 2;
  }
  printf("seen %d hits %d\n", seen, hits);
  return 0;
}
