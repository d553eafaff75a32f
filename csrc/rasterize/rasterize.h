// rasterize: positions in pixels -> face index, barycentrics and depth of the nearest triangle at each pixel centre.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace focus {

enum Coverage : int { kTopLeft = 0, kInclusive = 1, kStrict = 2 };
enum Cull : int { kCullBack = 0, kCullFront = 1, kCullNone = 2 };

// What decides which triangle a pixel belongs to.
struct RasterRule {
  int coverage;      // Coverage
  int cull;          // Cull
  bool perspective;  // barycentrics and depth interpolated in 3-D, else on the screen
  bool highest;      // the highest face index wins a depth tie, else the lowest
};

// What rasterize_ndc adds to it, in px^2: a triangle is dropped when its doubled area is at most `least_area`, and its
// depth is multiplied by area / (area - bias) before it is compared. `bias` is at most `least_area`; 0 = off.
struct AreaRule {
  double least_area = 0, bias = 0;
};

template <class T>
struct RasterizeParams {
  const T* positions;    // [B, V, 3] x px, y px, depth
  const int32_t* faces;  // [F, 3]
  int32_t* face_index;   // [B, H, W] -1 = background
  T* barycentrics;       // [B, H, W, 3]
  T* depth;              // [B, H, W]
  int64_t B, V, F, H, W;
  RasterRule rule;
  int threads;     // CPU only
  uint64_t* keys;  // CUDA only: [B, H, W] scratch
  int64_t* spill;  // CUDA only: [B * F + 1] scratch, the large triangles; spill[0] counts them
  // CUDA only, of rasterize_clip:
  const double* behind = nullptr;   // [B, H, W] or null: only what is farther than this is seen
  const int32_t* ranges = nullptr;  // [B, 2] or null: the first face and the number of faces of each image
};

template <class T>
struct RasterizeGradParams {
  const T* grad_barycentrics;  // [B, H, W, 3] or null
  const T* grad_depth;         // [B, H, W] or null
  const T* positions;          // [B, V, 3]
  const int32_t* faces;        // [F, 3]
  const int32_t* offsets;      // [V + 1]
  const int32_t* corners;      // [3 F]
  const int32_t* face_index;   // [B, H, W]
  T* grad_positions;           // [B, V, 3]
  int64_t B, V, F, H, W;
  bool perspective;
  int threads;      // CPU only
  uint32_t* first;  // CUDA only: [B, F] scratch, the lowest pixel of each face
  T* sums;          // CUDA only: [B, 9, H, W] scratch, sums over a face's pixels, kept at the lowest
};

template <class T>
void rasterize_cpu(const RasterizeParams<T>&);
template <class T>
void rasterize_grad_cpu(const RasterizeGradParams<T>&);
template <class T>
void rasterize_cuda(const RasterizeParams<T>&, int device, cudaStream_t);
template <class T>
void rasterize_grad_cuda(const RasterizeGradParams<T>&, int device, cudaStream_t);

}  // namespace focus
