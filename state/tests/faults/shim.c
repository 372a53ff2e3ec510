// Lets the n-th call of a kind go wrong, of those that a process makes on files below one directory. Loaded with
// LD_PRELOAD. What it does stands in these variables of the environment:
//
//   FAULT_BELOW   the directory
//   FAULT_CALLS   the kind of call: read, write, sync, open, rename, unlink, truncate or mkdir; or memory, any allocation
//   FAULT_AT      which call of that kind, counted from 1 over all threads
//   FAULT_HOW     eio, enospc, edquot or emfile: it fails so, without effect
//                 short: half of it is read or written; anything else is carried out
//                 slow: it is carried out after a fifth of a second
//                 before, after: the process is killed before it, or when it was carried out
//   FAULT_ON      once: only that call; on: all calls of that kind from there on
//   FAULT_COUNTS  a file of 16 numbers of 8 bytes, which must be there: the calls of the first eight kinds, how many calls
//                 went wrong, and the allocations. It is mapped into memory, so that it tells of a killed process too.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { READ, WRITE, SYNC, OPEN, RENAME, UNLINK, TRUNCATE, MKDIR, STRUCK, MEMORY, NONE };
static const char *const NAMES[NONE] = {"read", "write", "sync", "open", "rename", "unlink", "truncate", "mkdir", "", "memory"};

enum how { FAILS, SHORT, SLOW, BEFORE, AFTER };

static _Atomic unsigned long *counts;
static const char *below;
static size_t below_len;
static enum kind kind = NONE;
static unsigned long at;
static int on;
static enum how how;
static int error_number;

__attribute__((constructor)) static void start(void) {
    const char *file = getenv("FAULT_COUNTS"), *word = getenv("FAULT_CALLS");
    below = getenv("FAULT_BELOW");
    if (!file || !below) return;
    below_len = strlen(below);
    for (int i = 0; word && i < NONE; i++) {
        if (strcmp(word, NAMES[i]) == 0) kind = i;
    }
    at = getenv("FAULT_AT") ? strtoul(getenv("FAULT_AT"), NULL, 10) : 0;
    on = getenv("FAULT_ON") && strcmp(getenv("FAULT_ON"), "on") == 0;
    word = getenv("FAULT_HOW") ? getenv("FAULT_HOW") : "eio";
    error_number = !strcmp(word, "enospc") ? ENOSPC : !strcmp(word, "edquot") ? EDQUOT : !strcmp(word, "emfile") ? EMFILE : EIO;
    how = !strcmp(word, "short") ? SHORT : !strcmp(word, "slow") ? SLOW : !strcmp(word, "before") ? BEFORE
        : !strcmp(word, "after") ? AFTER : FAILS;
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int fd = real(file, O_RDWR);
    if (fd < 0) abort();
    counts = mmap(NULL, 16 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counts == MAP_FAILED) abort();
    close(fd);
}

static int is_below(const char *path) {
    return strncmp(path, below, below_len) == 0 && (path[below_len] == '/' || path[below_len] == 0);
}

// The path of an open file or directory; a file that was removed keeps its old one.
static int fd_is_below(int fd) {
    if (!counts) return 0;
    char link[40], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return is_below(path);
}

// A path as it was named: absolute, or below an open directory. This program changes no directory.
static int path_is_below(int dir, const char *path) {
    if (!counts) return 0;
    return path[0] == '/' ? is_below(path) : dir != AT_FDCWD && fd_is_below(dir);
}

// Whether this call goes wrong. If it is to fail, or to be cut short, the caller does that.
static int strikes(enum kind of) {
    unsigned long number = atomic_fetch_add(&counts[of], 1) + 1;
    if (of != kind || !at || (on ? number < at : number != at)) return 0;
    atomic_fetch_add(&counts[STRUCK], 1);
    if (how == BEFORE) kill(getpid(), SIGKILL);
    if (how == SLOW) nanosleep(&(struct timespec){0, 200000000}, NULL);
    return 1;
}

// What becomes of a call: carried out by `call`, unless it fails.
#define CALL(type, matters, of, call)                                                                                  \
    do {                                                                                                               \
        int struck = (matters) && strikes(of);                                                                         \
        if (struck && how == FAILS) {                                                                                  \
            errno = error_number;                                                                                      \
            return -1;                                                                                                 \
        }                                                                                                              \
        type result = (call);                                                                                          \
        if (struck && how == AFTER) kill(getpid(), SIGKILL);                                                           \
        return result;                                                                                                 \
    } while (0)

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// The same for a call that reads or writes `size` bytes, which become `less` when it is cut short.
#define TRANSFER(fd, of, call)                                                                                         \
    do {                                                                                                               \
        int struck = fd_is_below(fd) && strikes(of);                                                                   \
        if (struck && how == FAILS) {                                                                                  \
            errno = error_number;                                                                                      \
            return -1;                                                                                                 \
        }                                                                                                              \
        if (struck && how == SHORT && size > 1) size /= 2;                                                             \
        ssize_t result = (call);                                                                                       \
        if (struck && how == AFTER) kill(getpid(), SIGKILL);                                                           \
        return result;                                                                                                 \
    } while (0)

ssize_t read(int fd, void *to, size_t size) { TRANSFER(fd, READ, REAL(read)(fd, to, size)); }
ssize_t pread(int fd, void *to, size_t size, off_t from) { TRANSFER(fd, READ, REAL(pread)(fd, to, size, from)); }
ssize_t pread64(int fd, void *to, size_t size, off64_t from) { TRANSFER(fd, READ, REAL(pread64)(fd, to, size, from)); }
ssize_t write(int fd, const void *from, size_t size) { TRANSFER(fd, WRITE, REAL(write)(fd, from, size)); }
ssize_t pwrite(int fd, const void *from, size_t size, off_t to) { TRANSFER(fd, WRITE, REAL(pwrite)(fd, from, size, to)); }
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t to) {
    TRANSFER(fd, WRITE, REAL(pwrite64)(fd, from, size, to));
}
ssize_t preadv64(int fd, const struct iovec *to, int size, off64_t from) {
    if (how != SHORT || size != 1) TRANSFER(fd, READ, REAL(preadv64)(fd, to, size, from));
    // One piece only: half of it.
    struct iovec half = {to->iov_base, to->iov_len};
    if (fd_is_below(fd) && strikes(READ) && half.iov_len > 1) half.iov_len /= 2;
    return REAL(preadv64)(fd, &half, 1, from);
}
ssize_t readv(int fd, const struct iovec *to, int size) { TRANSFER(fd, READ, REAL(readv)(fd, to, size)); }
ssize_t writev(int fd, const struct iovec *from, int size) { TRANSFER(fd, WRITE, REAL(writev)(fd, from, size)); }
ssize_t copy_file_range(int in, off64_t *from, int fd, off64_t *to, size_t size, unsigned flags) {
    TRANSFER(fd, WRITE, REAL(copy_file_range)(in, from, fd, to, size, flags));
}

int fsync(int fd) { CALL(int, fd_is_below(fd), SYNC, REAL(fsync)(fd)); }
int fdatasync(int fd) { CALL(int, fd_is_below(fd), SYNC, REAL(fdatasync)(fd)); }
int ftruncate(int fd, off_t size) { CALL(int, fd_is_below(fd), TRUNCATE, REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) { CALL(int, fd_is_below(fd), TRUNCATE, REAL(ftruncate64)(fd, size)); }
int fallocate(int fd, int mode, off_t from, off_t size) {
    CALL(int, fd_is_below(fd), TRUNCATE, REAL(fallocate)(fd, mode, from, size));
}
int fallocate64(int fd, int mode, off64_t from, off64_t size) {
    CALL(int, fd_is_below(fd), TRUNCATE, REAL(fallocate64)(fd, mode, from, size));
}

static mode_t mode_of(int flags, va_list rest) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPEN_CALL(dir, call)                                                                                           \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    mode_t mode = mode_of(flags, rest);                                                                                \
    va_end(rest);                                                                                                      \
    CALL(int, path_is_below(dir, path), OPEN, call)

int open(const char *path, int flags, ...) { OPEN_CALL(AT_FDCWD, REAL(open)(path, flags, mode)); }
int open64(const char *path, int flags, ...) { OPEN_CALL(AT_FDCWD, REAL(open64)(path, flags, mode)); }
int openat(int dir, const char *path, int flags, ...) { OPEN_CALL(dir, REAL(openat)(dir, path, flags, mode)); }
int openat64(int dir, const char *path, int flags, ...) { OPEN_CALL(dir, REAL(openat64)(dir, path, flags, mode)); }

DIR *opendir(const char *path) {
    int struck = path_is_below(AT_FDCWD, path) && strikes(OPEN);
    if (struck && how == FAILS) {
        errno = error_number;
        return NULL;
    }
    DIR *result = REAL(opendir)(path);
    if (struck && how == AFTER) kill(getpid(), SIGKILL);
    return result;
}

int rename(const char *from, const char *to) {
    CALL(int, path_is_below(AT_FDCWD, to), RENAME, REAL(rename)(from, to));
}
int unlink(const char *path) { CALL(int, path_is_below(AT_FDCWD, path), UNLINK, REAL(unlink)(path)); }
int unlinkat(int dir, const char *path, int flags) {
    CALL(int, path_is_below(dir, path), UNLINK, REAL(unlinkat)(dir, path, flags));
}
int rmdir(const char *path) { CALL(int, path_is_below(AT_FDCWD, path), UNLINK, REAL(rmdir)(path)); }
int mkdir(const char *path, mode_t mode) { CALL(int, path_is_below(AT_FDCWD, path), MKDIR, REAL(mkdir)(path, mode)); }

// glibc's own names of its allocator: to look them up would allocate.
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int refused(void) {
    if (!counts || !strikes(MEMORY)) return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return refused() ? NULL : __libc_malloc(size); }
void *calloc(size_t number, size_t size) { return refused() ? NULL : __libc_calloc(number, size); }
void *realloc(void *old, size_t size) { return refused() ? NULL : __libc_realloc(old, size); }
void *memalign(size_t align, size_t size) { return refused() ? NULL : __libc_memalign(align, size); }
void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
int posix_memalign(void **to, size_t align, size_t size) {
    void *made = memalign(align, size);
    if (!made) return ENOMEM;
    *to = made;
    return 0;
}
