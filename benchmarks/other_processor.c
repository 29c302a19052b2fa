/* A process that takes this processor for one without AVX-512 and, with OTHER_PROCESSOR=AMD or Haswell, with its caches: at full speed.

   cc -shared -fPIC -O1 -o other_processor.so benchmarks/other_processor.c -ldl
   OTHER_PROCESSOR=AMD LD_PRELOAD=$PWD/other_processor.so GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ make verify

   Libraries choose their kernels by the instruction CPUID. The kernel is asked to let it fault (Linux, processors with
   cpuid_fault in /proc/cpuinfo), and the fault is answered with what the other processor would say. The C library asks before
   this is loaded: its own choice is set by GLIBC_TUNABLES. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012

static void let_cpuid_fault(int fault) { syscall(SYS_arch_prctl, ARCH_SET_CPUID, !fault); }

static int is(const char *processor) {
    const char *name = getenv("OTHER_PROCESSOR");
    return name && !strcmp(name, processor);
}

/* Caches as CPUID describes them: L1 of data and instructions with 32 KB, L2, L3 shared by 16 threads. */
static void cache(unsigned index, unsigned l2_sets, unsigned l3_ways, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    static const unsigned types[] = {1 | 1 << 5, 2 | 1 << 5, 3 | 2 << 5, 3 | 3 << 5};
    *a = index < 4 ? types[index] | 1u << 8 | (index == 3 ? 15u : 1u) << 14 : 0;
    *b = 63 | ((index == 3 ? l3_ways : 8u) - 1) << 22;
    *c = (index < 2 ? 64 : index == 2 ? l2_sets : 16384) - 1;
    *d = 0;
}

/* What the other processor says: leaf and subleaf in, four registers out. */
static void answer(unsigned leaf, unsigned subleaf, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    __cpuid_count(leaf, subleaf, *a, *b, *c, *d);
    if (leaf == 7 && subleaf == 0) {
        *b &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31); /* AVX512F ... VL */
        *c &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);                                    /* VBMI, VNNI ... */
        *d &= ~(1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25);               /* FP16, AMX */
    }
    if (leaf == 7 && subleaf == 1) *a &= ~(1u << 4 | 1u << 5); /* AVX-VNNI, AVX512_BF16 */
    if (leaf == 0xd && subleaf == 0) *a &= ~(7u << 5 | 3u << 17); /* state of AVX-512 and AMX */
    if (is("Haswell") && leaf == 4) cache(subleaf, 512, 20, a, b, c, d); /* 256 KB, 20 MB */
    if (!is("AMD")) return;
    if (leaf == 0 || leaf == 0x80000000u) *b = 0x68747541, *d = 0x69746e65, *c = 0x444d4163; /* AuthenticAMD */
    if (leaf == 0x80000000u) *a = 0x8000001f;
    if (leaf == 1) *a = 0x00830f10; /* EPYC of 2019 */
    if (leaf == 4) *a = *b = *c = *d = 0;
    if (leaf == 0x80000001u) *c |= 1u << 22; /* caches are told by the next leaf */
    if (leaf == 0x8000001du) cache(subleaf, 1024, 16, a, b, c, d); /* 512 KB, 16 MB */
}

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
    if (info->si_code != SI_KERNEL || instruction[0] != 0x0f || instruction[1] != 0xa2) {
        signal(SIGSEGV, SIG_DFL); /* another fault: it is repeated, and ends the process */
        return;
    }
    unsigned a, b, c, d;
    let_cpuid_fault(0);
    answer(registers[REG_RAX], registers[REG_RCX], &a, &b, &c, &d);
    let_cpuid_fault(1);
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

/* Nobody else handles or blocks these faults. */
int sigaction(int number, const struct sigaction *new, struct sigaction *old) {
    static int (*next)(int, const struct sigaction *, struct sigaction *);
    if (!next) next = dlsym(RTLD_NEXT, "sigaction");
    return next(number, number == SIGSEGV && new && new->sa_sigaction != on_fault ? NULL : new, old);
}

static int without_faults(int (*next)(int, const sigset_t *, sigset_t *), int how, const sigset_t *set, sigset_t *old) {
    if (!set || how == SIG_UNBLOCK) return next(how, set, old);
    sigset_t reduced = *set;
    sigdelset(&reduced, SIGSEGV);
    return next(how, &reduced, old);
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    return without_faults(dlsym(RTLD_NEXT, "pthread_sigmask"), how, set, old);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    return without_faults(dlsym(RTLD_NEXT, "sigprocmask"), how, set, old);
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    let_cpuid_fault(1);
}
