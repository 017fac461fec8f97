/* The storage and clock shim of the fault lab: what a disk and a wall clock may do to a process that trusts them.
 *
 * Preloaded into a real node, it stands between the node and libc for the files below one directory. It can make a sync
 * slow or fail, move the wall clock, and keep an undo journal from which a power cut is played after the process was
 * killed: every byte that no sync had promised may be taken back.
 *
 * The settings are words of a mapped file, so that looking at them costs a load. The journal is written before each write:
 *   N file length path        the name of a file
 *   W file seq offset length_before count pre-image
 *   T file seq length_before count bytes that a truncation cut off
 *   S file seq                everything of this file up to seq was synced
 *   U file seq                the file was removed
 * All numbers are 64 bits, in the machine's order.
 *
 * Deliberately absent: names. Creating, removing and renaming count as durable at once. Files that are mapped are not seen;
 * SQLite maps its index alone, which no crash keeps. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FDS 65536
#define FILES 4096
#define PATH 1024
#define JOURNAL_BYTES_MAX (64L << 20)

struct settings {
  volatile int64_t sync_delay_ms, sync_error, clock_ms, record, syncs, writes;
};

static struct settings none, *set = &none;
static char watch[PATH];
static size_t watch_length;
static int journal = -1;
static off_t journal_bytes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int file_of[FDS]; /* 0: not watched, else the file's number */
static char *name_of[FILES];
static uint64_t written[FILES], synced[FILES];
static int files;
static uint64_t seq;

#define REAL(type, name, ...)                                                                                      \
  static type (*real)(__VA_ARGS__);                                                                                \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t real_write(int fd, const void *bytes, size_t count) {
  REAL(ssize_t, "write", int, const void *, size_t);
  return real(fd, bytes, count);
}

static ssize_t real_pwrite(int fd, const void *bytes, size_t count, off_t at) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
  return real(fd, bytes, count, at);
}

static int real_open(const char *path, int flags, mode_t mode) {
  REAL(int, "open64", const char *, int, ...);
  return real(path, flags, mode);
}

static int real_ftruncate(int fd, off_t length) {
  REAL(int, "ftruncate64", int, off_t);
  return real(fd, length);
}

__attribute__((constructor)) static void begin(void) {
  const char *folder = getenv("STATEHOUSE_SHIM"), *watched = getenv("STATEHOUSE_SHIM_WATCH");
  char path[PATH];
  if (!folder || !watched || strlen(folder) + 16 > PATH || strlen(watched) + 1 > PATH) return;
  strcpy(watch, watched);
  watch_length = strlen(watch);
  strcat(strcpy(path, folder), "/control");
  int fd = real_open(path, O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) return;
  void *mapped = mmap(0, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (mapped == MAP_FAILED) return;
  set = mapped;
  strcat(strcpy(path, folder), "/journal");
  journal = real_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
}

/* Everything below that touches the tables holds the lock. */

static void put(const void *bytes, size_t count) {
  while (count > 0) {
    ssize_t done = real_write(journal, bytes, count);
    if (done <= 0) abort(); /* a journal with a hole would tell lies */
    journal_bytes += done;
    bytes = (const char *)bytes + done;
    count -= (size_t)done;
  }
}

static void head(char kind, uint64_t file, const uint64_t *words, int count) {
  struct { uint64_t kind, file, words[4]; } record = {(uint64_t)kind, file, {0}};
  for (int i = 0; i < count; i++) record.words[i] = words[i];
  put(&record, sizeof record);
}

static void name(int file) {
  uint64_t length = strlen(name_of[file]);
  head('N', (uint64_t)file, &length, 1);
  put(name_of[file], length);
}

/* When nothing is owed, the journal may be forgotten. */
static void shorten(void) {
  if (journal_bytes < JOURNAL_BYTES_MAX) return;
  for (int file = 1; file <= files; file++)
    if (written[file] > synced[file]) return;
  if (real_ftruncate(journal, 0) != 0) abort();
  journal_bytes = 0;
  for (int file = 1; file <= files; file++) name(file);
}

static int number(const char *path) {
  for (int file = 1; file <= files; file++)
    if (strcmp(name_of[file], path) == 0) return file;
  if (files + 1 >= FILES) abort();
  name_of[++files] = strdup(path);
  name(files);
  return files;
}

static void opened(int fd, int flags) {
  char link[64], path[PATH];
  if (fd < 0 || fd >= FDS || journal < 0 || (flags & O_DIRECTORY)) return;
  char digits[16];
  int at = 15;
  digits[at] = 0;
  for (int rest = fd; rest > 0 || at == 15; rest /= 10) digits[--at] = (char)('0' + rest % 10);
  strcat(strcpy(link, "/proc/self/fd/"), digits + at);
  ssize_t length = readlink(link, path, PATH - 1);
  if (length < 0) return;
  path[length] = 0;
  pthread_mutex_lock(&lock);
  int is_watched = strncmp(path, watch, watch_length) == 0 && !strstr(path, "-shm");
  file_of[fd] = is_watched ? number(path) : 0;
  pthread_mutex_unlock(&lock);
}

static int watched(int fd) { return fd >= 0 && fd < FDS && journal >= 0 ? file_of[fd] : 0; }

/* Keeps what a write is about to overwrite. */
static void keep(char kind, int fd, int file, off_t from, size_t count) {
  static char page[1 << 16];
  struct stat now;
  if (fstat(fd, &now) != 0) abort();
  off_t end = from + (off_t)count < now.st_size ? from + (off_t)count : now.st_size;
  uint64_t owed = end > from ? (uint64_t)(end - from) : 0;
  uint64_t words[4] = {++seq, (uint64_t)from, (uint64_t)now.st_size, owed};
  head(kind, (uint64_t)file, words, 4);
  for (uint64_t done = 0; done < owed;) {
    size_t part = owed - done < sizeof page ? owed - done : sizeof page;
    ssize_t got = pread64(fd, page, part, from + (off_t)done);
    if (got <= 0) abort();
    put(page, (size_t)got);
    done += (uint64_t)got;
  }
  written[file] = seq;
  set->writes++;
}

int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  int fd = real_open(path, flags, mode);
  opened(fd, flags);
  return fd;
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int openat(int folder, const char *path, int flags, ...) {
  REAL(int, "openat64", int, const char *, int, ...);
  va_list rest;
  va_start(rest, flags);
  mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  int fd = real(folder, path, flags, mode);
  opened(fd, flags);
  return fd;
}
int openat64(int folder, const char *path, int flags, ...) __attribute__((alias("openat")));

int close(int fd) {
  REAL(int, "close", int);
  if (fd >= 0 && fd < FDS) file_of[fd] = 0;
  return real(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  int file = watched(fd);
  if (!file || !set->record) return real_write(fd, bytes, count);
  pthread_mutex_lock(&lock);
  off_t at = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
  if (at >= 0) keep('W', fd, file, at, count);
  ssize_t done = real_write(fd, bytes, count);
  pthread_mutex_unlock(&lock);
  return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
  int file = watched(fd);
  if (!file || !set->record) return real_pwrite(fd, bytes, count, at);
  pthread_mutex_lock(&lock);
  keep('W', fd, file, at, count);
  ssize_t done = real_pwrite(fd, bytes, count, at);
  pthread_mutex_unlock(&lock);
  return done;
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) __attribute__((alias("pwrite")));

/* One piece after the other: a caller must expect a short write. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  if (!watched(fd) || !set->record || count < 1) return real(fd, parts, count);
  return write(fd, parts[0].iov_base, parts[0].iov_len);
}

int ftruncate(int fd, off_t length) {
  int file = watched(fd);
  if (!file || !set->record) return real_ftruncate(fd, length);
  pthread_mutex_lock(&lock);
  struct stat now;
  if (fstat(fd, &now) != 0) abort();
  size_t cut = now.st_size > length ? (size_t)(now.st_size - length) : 0;
  keep('T', fd, file, length, cut);
  int done = real_ftruncate(fd, length);
  pthread_mutex_unlock(&lock);
  return done;
}
int ftruncate64(int fd, off_t length) __attribute__((alias("ftruncate")));

static int sync_with(int fd, int (*real)(int)) {
  int file = watched(fd);
  if (!file) return real(fd);
  if (set->sync_delay_ms > 0) {
    struct timespec wait = {set->sync_delay_ms / 1000, set->sync_delay_ms % 1000 * 1000000};
    nanosleep(&wait, 0);
  }
  if (set->sync_error) {
    errno = EIO;
    return -1;
  }
  pthread_mutex_lock(&lock);
  uint64_t upto = written[file];
  set->syncs++;
  pthread_mutex_unlock(&lock);
  int done = real(fd);
  if (done != 0 || !set->record) return done;
  pthread_mutex_lock(&lock);
  if (upto > synced[file]) {
    synced[file] = upto;
    head('S', (uint64_t)file, &upto, 1);
    shorten();
  }
  pthread_mutex_unlock(&lock);
  return done;
}

int fsync(int fd) {
  REAL(int, "fsync", int);
  return sync_with(fd, real);
}

int fdatasync(int fd) {
  REAL(int, "fdatasync", int);
  return sync_with(fd, real);
}

int unlink(const char *path) {
  REAL(int, "unlink", const char *);
  int done = real(path);
  if (done != 0 || journal < 0) return done;
  pthread_mutex_lock(&lock);
  for (int file = 1; file <= files; file++)
    if (strcmp(name_of[file], path) == 0) {
      synced[file] = written[file] = ++seq;
      head('U', (uint64_t)file, &seq, 1);
    }
  pthread_mutex_unlock(&lock);
  return done;
}

static void move_clock(struct timespec *time) {
  int64_t ns = time->tv_nsec + set->clock_ms % 1000 * 1000000;
  time->tv_sec += set->clock_ms / 1000;
  if (ns < 0) ns += 1000000000, time->tv_sec--;
  if (ns >= 1000000000) ns -= 1000000000, time->tv_sec++;
  time->tv_nsec = ns;
}

int clock_gettime(clockid_t which, struct timespec *time) {
  REAL(int, "clock_gettime", clockid_t, struct timespec *);
  int done = real(which, time);
  if (done == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE) && set->clock_ms) move_clock(time);
  return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec time;
  (void)zone;
  int done = clock_gettime(CLOCK_REALTIME, &time);
  now->tv_sec = time.tv_sec, now->tv_usec = time.tv_nsec / 1000;
  return done;
}

time_t time(time_t *to) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec;
  return now.tv_sec;
}
