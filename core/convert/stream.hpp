#pragma once
// Writes safetensors files whose tensors are made of boxes over mapped source tensors. Memory is
// bounded by one window a worker; every tensor is fingerprinted while it is written.

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/progress.hpp"
#include "core/base/result.hpp"
#include "core/checkpoint/source_tensor.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/digest.hpp"
#include "core/layout/box.hpp"

namespace bv::convert {

struct OutputTensor {
  TensorSpec spec;
  std::vector<checkpoint::SourceTensor> sources;
  /// Boxes over `sources` that tile the tensor; made when its turn comes.
  std::function<std::vector<layout::Box>()> boxes;
  double add = 0;  // added in the sources' dtype before the cast; 0 moves bits
};

struct OutputFile {
  std::string name;
  std::map<std::string, std::string> metadata;
  std::vector<OutputTensor> tensors;
};

[[nodiscard]] std::set<std::string> names_of(const std::vector<OutputFile>& files);

struct StreamOptions {
  int jobs = 1;
  ProgressSink* progress = nullptr;
  /// Finished files of an interrupted run stay when they are, byte for byte, what this run would
  /// write.
  bool resume = false;
};

/// Writes every file into `folder` (which exists). On an error nothing appears under its final name
/// that is not whole. Errors: DiskFull, PermissionDenied, IndexDisagrees (a source changed while it
/// was read), Conflict (stopped).
[[nodiscard]] Result<io::Digests> write_files(const std::filesystem::path& folder,
                                              const std::vector<OutputFile>& files,
                                              const StreamOptions& options);

/// Reads the files back and compares fingerprints. Errors: WriteLost naming file and tensor.
[[nodiscard]] Status verify_files(const std::filesystem::path& folder, const io::Digests& digests,
                                  int jobs);

}  // namespace bv::convert
