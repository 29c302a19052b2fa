#!/usr/bin/env bash
# torch 2.13.0 (oneDNN 3.12): a transposed convolution on a CPU gives other last digits on a processor that differs only in the size of its L2 cache.
#
# With the same instructions (ONEDNN_MAX_CPU_ISA=AVX2), one thread and the same input, the order in which products are summed is chosen by the cache size that
# CPUID tells. So the settings that fix the instruction set do not make two processors of one family agree. With ONEDNN_MAX_CPU_ISA=AVX, whose kernels
# share out work by the cache and never sums, the digits are the same.
#
# The process is told another cache size: Linux lets the instruction CPUID fault, and the fault is answered (leaf 4). Needs an Intel processor with
# cpuid_fault in /proc/cpuinfo, and cc.
set -eu
if ! grep -qw cpuid_fault /proc/cpuinfo || ! grep -q GenuineIntel /proc/cpuinfo || ! command -v cc >/dev/null; then
    echo "not tried: needs an Intel processor with cpuid_fault, and cc"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'torch==2.13.0' 'numpy==2.4.6'
cat >"$folder/cache.c" <<'C'
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static void fault(int on) { syscall(SYS_arch_prctl, 0x1012, !on); }

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)r[REG_RIP];
    unsigned a, b, c, d, leaf = r[REG_RAX], subleaf = r[REG_RCX];
    if (code[0] != 0x0f || code[1] != 0xa2) _exit(99);
    fault(0);
    __cpuid_count(leaf, subleaf, a, b, c, d);
    fault(1);
    if (leaf == 4 && (a >> 5 & 7) == 2) { /* L2: 8 ways of 64 bytes, not shared */
        a &= ~(0xfffu << 14);
        b = 63 | 7u << 22;
        c = atoi(getenv("L2_KB")) * 2 - 1;
    }
    r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d;
    r[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    fault(1);
}
C
cc -shared -fPIC -O1 -o "$folder/cache.so" "$folder/cache.c"
cat >"$folder/convolve.py" <<'PYTHON'
import hashlib

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
layer = torch.nn.ConvTranspose3d(192, 32, 3, stride=2, padding=1, output_padding=1)
with torch.no_grad():
    print(hashlib.sha256(layer(torch.randn(2, 192, 12, 12, 12)).numpy().tobytes()).hexdigest()[:12])
PYTHON
with_cache() { # instruction set, size of the L2 cache in KB
    ONEDNN_MAX_CPU_ISA=$1 L2_KB=$2 LD_PRELOAD="$folder/cache.so" "$folder/env/bin/python" "$folder/convolve.py"
}
for isa in AVX2 AVX; do
    small=$(with_cache $isa 512) large=$(with_cache $isa 1024)
    echo "$isa: with 512 KB $small, with 1024 KB $large"
    if [ $isa = AVX2 ]; then [ "$small" != "$large" ]; else [ "$small" = "$large" ]; fi
done
