// Stops every new process of its PID namespace as early as it can, before its program runs.
// Arguments: "scan", seconds, and two halves of a text: looks for the text in the process's memory and lets it go on.
// Or "stop": never lets it go on.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int caught, hits;

static void scan(int pid, const char *secret) {
  char path[64], line[512], name[64] = "";
  snprintf(path, sizeof path, "/proc/%d/comm", pid);
  FILE *comm = fopen(path, "r");
  if (!comm) return;
  if (!fgets(name, sizeof name, comm)) name[0] = 0;
  fclose(comm);
  if (strncmp(name, "k3rs-shim", 9)) return;
  snprintf(path, sizeof path, "/proc/%d/mem", pid);
  int memory = open(path, O_RDONLY);
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE *maps = fopen(path, "r");
  if (memory >= 0 && maps) {
    int looked = 0;
    while (fgets(line, sizeof line, maps)) {
      unsigned long from, to;
      char mode[8];
      if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || mode[1] != 'w' || to - from > 64 << 20) continue;
      char *copy = malloc(to - from);
      ssize_t n = pread(memory, copy, to - from, from);
      if (n > 0) looked = 1;
      char *at = n > 0 ? memmem(copy, n, secret, strlen(secret)) : 0;
      if (at) {
        printf("HIT pid %d at %lx of %s", pid, from + (at - copy), line);
        fflush(stdout);
        hits++;
      }
      free(copy);
    }
    caught += looked;
  }
  if (maps) fclose(maps);
  if (memory >= 0) close(memory);
}

int main(int count, char **args) {
  if (count < 2) return 2;
  int scans = !strcmp(args[1], "scan");
  time_t end = time(0) + (scans ? atoi(args[2]) : 100000);
  char secret[200] = "";
  if (scans) snprintf(secret, sizeof secret, "%s%s", args[3], args[4]);
  printf("watching\n");
  fflush(stdout);
  int last = 2;
  while (time(0) < end && access("/tmp/stop", F_OK)) {
    for (int rounds = 0; rounds < 200; rounds++) {
      for (int pid = last; pid < last + 6; pid++) {
        if (pid == getpid() || kill(pid, SIGSTOP)) continue;
        last = pid + 1;
        if (scans) {
          scan(pid, secret);
          kill(pid, SIGCONT);
        }
        break;
      }
    }
    char text[200];
    int file = open("/proc/loadavg", O_RDONLY);
    long n = read(file, text, sizeof text - 1);
    close(file);
    text[n > 0 ? n : 0] = 0;
    char *word = strrchr(text, ' ');
    if (word && atoi(word + 1) >= last + 5) last = atoi(word + 1) - 2;
  }
  printf("caught %d hits %d\n", caught, hits);
  return 0;
}
