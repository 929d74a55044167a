#pragma once
// Writes safetensors files whose tensors are made of boxes over mapped source tensors. Memory is
// bounded by one window a worker; every tensor is fingerprinted while it is written.

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/exec/progress.hpp"
#include "core/io/checkpoint.hpp"
#include "core/layout/box.hpp"

namespace bv::exec {

struct SourceTensor {
  const io::Checkpoint* checkpoint = nullptr;
  const io::StoredTensor* tensor = nullptr;
};

struct OutputTensor {
  TensorSpec spec;
  std::vector<SourceTensor> sources;
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

/// tensor name -> XXH3-128, by file.
using Digests = std::map<std::string, std::map<std::string, std::string>>;

/// Writes every file into `folder` (which exists). On an error nothing appears under its final name
/// that is not whole. Errors: DiskFull, PermissionDenied, IndexDisagrees (a source changed while it
/// was read), Conflict (stopped).
[[nodiscard]] Result<Digests> write_files(const std::filesystem::path& folder,
                                          const std::vector<OutputFile>& files,
                                          const StreamOptions& options);

/// Reads the files back and compares fingerprints. Errors: WriteLost naming file and tensor.
[[nodiscard]] Status verify_files(const std::filesystem::path& folder, const Digests& digests,
                                  int jobs);

/// Runs `work(i)` for i in [0, count) on `jobs` threads, in order of i; stops at the first error
/// and returns the one with the lowest index that was met.
[[nodiscard]] Status for_each_parallel(std::size_t count, int jobs,
                                       const std::function<Status(std::size_t)>& work);

}  // namespace bv::exec
