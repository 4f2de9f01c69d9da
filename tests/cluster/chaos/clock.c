/* The wall clock of a process that this library is loaded into is shifted by as many seconds as the file that
 * CHAOS_CLOCK names holds, whenever that changes. Clocks that nobody can set (CLOCK_MONOTONIC) are left alone, as a
 * real step of the clock leaves them: libfaketime either shifts those too, or lets Python sleep for hours. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define FORWARD(name, ...)                                                  \
    static __typeof__(&name) real;                                          \
    if (!real && !(real = dlvsym(RTLD_NEXT, #name, "GLIBC_2.3.2")))         \
        real = dlsym(RTLD_NEXT, #name);                                     \
    return real(__VA_ARGS__)

static int now(clockid_t clock, struct timespec *time) { FORWARD(clock_gettime, clock, time); }

/* Seconds; the file is read twice a second. */
static long shift(void) {
    static volatile long seconds, next;
    struct timespec time;
    now(CLOCK_MONOTONIC, &time);
    long half = 2 * time.tv_sec + time.tv_nsec / 500000000;
    if (half >= next) {
        char text[32] = "";
        const char *path = getenv("CHAOS_CLOCK");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (file >= 0 && read(file, text, sizeof text - 1) > 0) seconds = atol(text);
        if (file >= 0) close(file);
        next = half + 1;
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = now(clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += shift();
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    *time = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *where) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (where) *where = precise.tv_sec;
    return precise.tv_sec;
}

/* Who waits until a moment of the shifted clock waits until that of the kernel's. A machine's uptime is shorter. */
static const struct timespec *kernels(const struct timespec *until, struct timespec *room) {
    if (!until || until->tv_sec < 1000000000) return until;
    *room = *until;
    room->tv_sec -= shift();
    return room;
}

int pthread_cond_timedwait(pthread_cond_t *restrict one, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    struct timespec room;
    FORWARD(pthread_cond_timedwait, one, mutex, kernels(until, &room));
}

int pthread_cond_clockwait(pthread_cond_t *one, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    struct timespec room;
    FORWARD(pthread_cond_clockwait, one, mutex, clock, kernels(until, &room));
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    struct timespec room;
    FORWARD(pthread_mutex_timedlock, mutex, kernels(until, &room));
}

int sem_timedwait(sem_t *restrict one, const struct timespec *restrict until) {
    struct timespec room;
    FORWARD(sem_timedwait, one, kernels(until, &room));
}

int sem_clockwait(sem_t *restrict one, clockid_t clock, const struct timespec *restrict until) {
    struct timespec room;
    FORWARD(sem_clockwait, one, clock, kernels(until, &room));
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *left) {
    struct timespec room;
    FORWARD(clock_nanosleep, clock, flags, flags & TIMER_ABSTIME ? kernels(request, &room) : request, left);
}

/* Abseil, in Ray and in gRPC, waits by the system call. */
long syscall(long number, ...) {
    long words[6];
    struct timespec room;
    va_list list;
    va_start(list, number);
    for (int word = 0; word < 6; word++) words[word] = va_arg(list, long);
    va_end(list);
    if (number == SYS_futex && words[1] & FUTEX_CLOCK_REALTIME)
        words[3] = (long)kernels((const struct timespec *)words[3], &room);
    FORWARD(syscall, number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
