#include <cstdlib>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "kernels/cpu/ops_cpu.h"
#include "kernels/error.h"
#include "kernels/ops.h"
#include "kernels/reference/ops_reference.h"

namespace stamp {
namespace {

std::unique_ptr<Ops> reference(int) { return make_reference_ops(); }
std::unique_ptr<Ops> scalar(int threads) { return make_cpu_ops(scalar_kernels(), threads); }
#if defined(__x86_64__)
std::unique_ptr<Ops> avx2(int threads) { return make_cpu_ops(avx2_kernels(), threads); }
std::unique_ptr<Ops> avxvnni(int threads) { return make_cpu_ops(avxvnni_kernels(), threads); }
std::unique_ptr<Ops> avx512(int threads) { return make_cpu_ops(avx512_kernels(), threads); }
std::unique_ptr<Ops> avx512vnni(int threads) { return make_cpu_ops(avx512vnni_kernels(), threads); }
std::unique_ptr<Ops> amx(int threads) { return make_cpu_ops(amx_kernels(), threads); }
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avxvnni() { return has_avx2() && __builtin_cpu_supports("avxvnni"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool has_avx512vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
/// Tiles are 8 KiB of state more for each thread: Linux wants to be asked for them, once a process. It
/// refuses where the CPU or the kernel has none.
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long kRequestState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, kRequestState, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}
bool has_amx() {
  constexpr unsigned kTileAndInt8 = 1u << 24 | 1u << 25;
  unsigned a, b, c, d;
  return has_avx512vnni() && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
         (d & kTileAndInt8) == kTileAndInt8 && may_use_tiles();
}
#elif defined(__aarch64__)
std::unique_ptr<Ops> neon(int threads) { return make_cpu_ops(neon_kernels(), threads); }
std::unique_ptr<Ops> neoni8mm(int threads) { return make_cpu_ops(neoni8mm_kernels(), threads); }
bool has_neon() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }  // with dot products
bool has_neoni8mm() { return has_neon() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }
#endif
bool always() { return true; }

struct Entry {
  std::string_view name;
  std::unique_ptr<Ops> (*make)(int threads);
  bool (*supported)();
};

/// Best first.
constexpr Entry kEntries[] = {
#if defined(__x86_64__)
    {"amx", amx, has_amx},
    {"avx512vnni", avx512vnni, has_avx512vnni},
    {"avxvnni", avxvnni, has_avxvnni},
    {"avx512", avx512, has_avx512},
    {"avx2", avx2, has_avx2},
#elif defined(__aarch64__)
    {"neoni8mm", neoni8mm, has_neoni8mm},
    {"neon", neon, has_neon},
#endif
    {"scalar", scalar, always},
    {"reference", reference, always},
};

}  // namespace

std::vector<std::string> available_ops() {
  std::vector<std::string> names;
  for (const Entry& entry : kEntries)
    if (entry.supported()) names.emplace_back(entry.name);
  return names;
}

std::unique_ptr<Ops> make_ops(std::string_view name, int threads) {
  const char* forced = std::getenv("STAMP_FORCE_OPS");
  const bool by_environment = name.empty() && forced != nullptr && *forced != '\0';
  if (by_environment) name = forced;
  for (const Entry& entry : kEntries)
    if (entry.supported() && (name.empty() || name == entry.name)) return entry.make(threads);
  std::string choices;
  for (const std::string& choice : available_ops()) choices += (choices.empty() ? "" : ", ") + choice;
  throw InputError((by_environment ? "STAMP_FORCE_OPS=" : "operations ") + std::string(name) +
                   ": not available on this machine; choose one of " + choices);
}

}  // namespace stamp
