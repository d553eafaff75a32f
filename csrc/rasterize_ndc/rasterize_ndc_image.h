// One image on the CPU, after draw() of rasterize: its depth buffer becomes the outputs. A copy per instruction set
// (rasterize_ndc_simd.cpp); all give the same bits.
#pragma once
#include "rasterize/rasterize_image.h"
#include "rasterize_ndc/rasterize_ndc.h"

namespace focus {

template <class T>
struct ResolvedNdc {
  int32_t* face_index;  // [H, W]
  T* depth;             // [H, W]
  T* barycentrics;      // [H, W, 3]
  T* distances;         // [H, W]
};

struct NdcKernels {
  void (*resolve32)(const RasterImage<float>&, const NdcRule&, const ResolvedNdc<float>&);
  void (*resolve64)(const RasterImage<double>&, const NdcRule&, const ResolvedNdc<double>&);
};

}  // namespace focus
