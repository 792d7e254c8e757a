// What the parts of the hostile program share: how a way out is told, and what of the host is looked for.
#pragma once
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

// A way out: its name is what the harness knows which powers a pod was given on purpose by.
struct way {
  const char *name;
  void (*run)(void);
};

extern const struct way FILE_WAYS[], PROCESS_WAYS[], KERNEL_WAYS[], MOUNT_WAYS[], NET_WAYS[];
extern const char *way_name;
// Of the host: a directory with `secret` in it, the server's token, and the words that the secret begins with.
extern const char *canary, *token, *mark;

void hit(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Reads and writes the host's files below `root`, and tells of each that can be.
void look(const char *root);
// The same from a directory descriptor.
void look_at(int fd, const char *what);
// Whether the file can be opened for writing; nothing is written.
int writable(const char *path);
int read_text(const char *path, char *text, int size);
unsigned number(unsigned below);
void watch_processes(int seconds);
void swap_links(int seconds);
void serve(int port);
void exhaust(const char *what);
