/* What the kernel tells a server of its disk and its clock, told otherwise. It is loaded into redis-server alone (power_test.go).
 *
 * A file in $CHAOS_SHIM is named by the number of a file's inode and holds its length when it was last flushed with success: what
 * a loss of power leaves of it at least. The file "clock" there holds a 64-bit number of nanoseconds by which the wall clock is off. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *dir;
static volatile int64_t *offset;

__attribute__((constructor)) static void begin(void) {
    char path[4096];
    int fd;
    if (!(dir = getenv("CHAOS_SHIM"))) return;
    dir = strdup(dir); /* redis-server writes its title over the environment */
    snprintf(path, sizeof path, "%s/clock", dir);
    if ((fd = open(path, O_RDONLY)) < 0) return;
    void *map = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) offset = map;
    close(fd);
}

static void name(char *path, size_t size, ino_t inode) { snprintf(path, size, "%s/%llu", dir, (unsigned long long)inode); }

/* The length is taken before the flush: what is written meanwhile may be left out of it. */
static int flush(long how, int fd) {
    char path[4096], line[32];
    struct stat st;
    int regular = dir && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    int result = syscall(how, fd);
    if (result != 0 || !regular) return result;
    name(path, sizeof path, st.st_ino);
    int out = open(path, O_WRONLY | O_CREAT, 0666);
    if (out < 0) abort(); /* a record that is missing would be taken for a loss */
    int n = snprintf(line, sizeof line, "%020lld\n", (long long)st.st_size);
    if (pwrite(out, line, n, 0) != n) abort();
    close(out);
    return result;
}

int fsync(int fd) { return flush(SYS_fsync, fd); }
int fdatasync(int fd) { return flush(SYS_fdatasync, fd); }

/* forget what is known of a file that goes: the next one may have its inode. */
static void forget(const char *file) {
    char path[4096];
    struct stat st;
    if (!dir || lstat(file, &st) != 0 || !S_ISREG(st.st_mode)) return;
    name(path, sizeof path, st.st_ino);
    syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int unlink(const char *file) {
    forget(file);
    return syscall(SYS_unlinkat, AT_FDCWD, file, 0);
}

int rename(const char *from, const char *to) {
    forget(to);
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    const int64_t second = 1000000000;
    int result = syscall(SYS_clock_gettime, clock, t);
    if (result != 0 || !offset || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
    int64_t at = t->tv_sec * second + t->tv_nsec + *offset;
    t->tv_sec = at / second;
    t->tv_nsec = at % second;
    return 0;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec at;
    (void)zone; /* nobody asks for it */
    if (clock_gettime(CLOCK_REALTIME, &at) != 0) return -1;
    t->tv_sec = at.tv_sec;
    t->tv_usec = at.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec at;
    if (clock_gettime(CLOCK_REALTIME, &at) != 0) return -1;
    if (to) *to = at.tv_sec;
    return at.tv_sec;
}
