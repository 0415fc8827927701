/* Preloaded, it answers one system call with one errno below one folder: a file system that lacks or refuses something.
 * `shim_set("rename", ENOSYS, "/folder", times)` from the process itself (ctypes) says which; times < 0: always. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char call_[32], below_[4096];
static int errno_, times_;

void shim_set(const char *call, int number, const char *below, int times) {
  snprintf(call_, sizeof call_, "%s", call);
  snprintf(below_, sizeof below_, "%s", below);
  errno_ = number;
  times_ = times;
}

static int refuses(const char *call, const char *path) {
  if (times_ == 0 || strcmp(call, call_) != 0 || strncmp(path, below_, strlen(below_)) != 0) return 0;
  if (times_ > 0) times_--;
  errno = errno_;
  return 1;
}

static int refuses_file(const char *call, int descriptor) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = times_ ? readlink(link, path, sizeof path - 1) : -1;
  if (length < 0) return 0;
  path[length] = 0;
  return refuses(call, path);
}

static int is_directory(int descriptor) {
  struct stat about;
  return fstat(descriptor, &about) == 0 && S_ISDIR(about.st_mode);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PATHS(name) \
  int name(const char *from, const char *to) { return refuses(#name, to) ? -1 : REAL(name)(from, to); }
#define OPENS(name)                                                                   \
  int name(const char *path, int flags, ...) {                                        \
    va_list more;                                                                     \
    va_start(more, flags);                                                            \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;           \
    va_end(more);                                                                     \
    if (refuses(flags & O_CREAT ? "create" : "open", path)) return -1;                \
    return REAL(name)(path, flags, mode);                                             \
  }

PATHS(rename)
PATHS(link)
OPENS(open)
OPENS(open64)
int unlink(const char *path) { return refuses("unlink", path) ? -1 : REAL(unlink)(path); }
int mkdir(const char *path, mode_t mode) { return refuses("mkdir", path) ? -1 : REAL(mkdir)(path, mode); }
int fchmod(int file, mode_t mode) { return refuses_file("fchmod", file) ? -1 : REAL(fchmod)(file, mode); }
int fsync(int file) {
  return refuses_file(is_directory(file) ? "fsync of a directory" : "fsync", file) ? -1 : REAL(fsync)(file);
}
ssize_t read(int file, void *into, size_t size) {
  return file > 2 && refuses_file("read", file) ? -1 : REAL(read)(file, into, size);
}
ssize_t write(int file, const void *from, size_t size) {
  return file > 2 && refuses_file("write", file) ? -1 : REAL(write)(file, from, size);
}
