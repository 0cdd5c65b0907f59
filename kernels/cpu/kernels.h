#pragma once
#include <cstdint>

#include "kernels/views.h"

namespace stamp {

/// Attention of a tile of queries that share one KV head: rows = tokens * group, row t * group + g is query
/// head g of the group at token t. Positions [position, position + tokens) lie in one page.
struct AttendTile {
  float* out;      // [tokens, group, head_dim], strides out_stride and head_dim
  const float* q;  // the same shape
  int64_t out_stride, q_stride;
  int64_t tokens, group, head_dim, position;
  float* const* page_base;  // physical pages
  const int32_t* pages;     // the sequence's block table
  int64_t k_offset, v_offset;
  float scale;
  float* scratch;  // attend_scratch_floats(tokens * group, head_dim)
};

inline int64_t attend_scratch_floats(int64_t rows, int64_t head_dim) {
  return rows * (2 * head_dim + kBlock + 2);
}

/// One instruction set's bodies: serial, on raw pointers. Files built for an instruction set must not share
/// inline functions with the rest of the program (the linker would keep one copy, maybe theirs), hence the
/// table of plain functions. CpuOps adds views, blocking and threads.
struct CpuKernels {
  const char* name;
  int64_t few_rows;  // up to here `linear` reads weights in their stored type; above, widen a panel first
  int64_t col_tile;  // panels should be multiples of this

  /// dst[0, n) = float(src[0, n))
  void (*widen)(float* dst, const void* src, DType dtype, int64_t n);
  /// out[r, c] = sum_k in[r, k] w[c, k] + bias[c], w of `dtype` with rows of `ldw` elements; bias may be
  /// null. Every element is one chain per SIMD lane over k, then a fixed tree: the same bits for any rows and
  /// cols.
  void (*linear)(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t rows, const void* w,
                 DType dtype, int64_t ldw, int64_t cols, int64_t k, const float* bias);
  void (*rms_norm)(float* out, const float* in, const float* gain, int64_t n, float eps);
  /// x [heads, head_dim]; cos, sin [head_dim / 2]
  void (*rope)(float* x, int64_t heads, int64_t head_dim, const float* cos, const float* sin);
  void (*silu_mul)(float* gate, const float* up, int64_t n);
  void (*add)(float* x, const float* y, int64_t n);
  void (*attend)(const AttendTile& tile);
  /// log sum exp x[0, n)
  double (*log_sum_exp)(const float* x, int64_t n);
};

const CpuKernels& scalar_kernels();
#if defined(__x86_64__)
const CpuKernels& avx2_kernels();
const CpuKernels& avx512_kernels();
#endif

}  // namespace stamp
