#pragma once
// Writes safetensors files whose tensors are made of boxes over source tensors. Memory is
// bounded by one window a worker; every tensor is fingerprinted while it is written.

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/base/progress.hpp"
#include "core/base/result.hpp"
#include "core/checkpoint/source_tensor.hpp"
#include "core/io/digest.hpp"
#include "core/io/output_place.hpp"
#include "core/io/writer.hpp"
#include "core/layout/box.hpp"

namespace bv::convert {

class SourcePrints;

struct OutputTensor {
  TensorSpec spec;
  std::vector<checkpoint::SourceTensor> sources;
  /// Boxes over `sources` that tile the tensor; made when its turn comes.
  std::function<std::vector<layout::Box>()> boxes;
  double add = 0;  // added in the sources' dtype before the cast; 0 moves bits
  /// What is done to elements before they are written: from `made`, the element `begin` and those
  /// that follow, to `out`, which has as many bytes. Ranges come in ascending order, each a
  /// multiple of `granule` but for the last. Empty: written as made.
  using Edit = std::function<Status(std::int64_t begin, std::span<const std::byte> made,
                                    std::span<std::byte> out)>;
  Edit edit = {};
  std::int64_t granule = 1;
};

struct OutputFile {
  std::string name;
  std::map<std::string, std::string> metadata;
  std::vector<OutputTensor> tensors;
};

[[nodiscard]] std::set<std::string> names_of(const std::vector<OutputFile>& files);

/// How much of a tensor is made at once. Tests make tensors longer than a window with small ones.
struct WindowSizes {
  /// Windows are made, fingerprinted and written while they are in the second-level cache: those of
  /// all tensors in step share it.
  std::int64_t bytes = std::int64_t{256} << 10;
  std::int64_t least_bytes = std::int64_t{64} << 10;
  std::int64_t release_bytes = std::int64_t{8} << 20;  // mapped pages are given back after so many
};
/// A device is far away: what goes there at once is larger.
inline constexpr WindowSizes kDeviceWindows{std::int64_t{64} << 20, std::int64_t{64} << 20,
                                            std::int64_t{64} << 20};

struct StreamOptions {
  int jobs = 1;
  ProgressSink* progress = nullptr;
  /// Finished files of an interrupted run stay when they are, byte for byte, what this run would
  /// write.
  bool resume = false;
  WindowSizes windows = {};
  std::uint64_t more_bytes = 0;      // that the caller will write there beside these files
  move::Executor* device = nullptr;  // null: the processor
  SourcePrints* sources = nullptr;   // fingerprinted as they are read
  /// File -> XXH3-128 of all its bytes, of files that one thread wrote in order.
  std::map<std::string, std::string>* whole_files = nullptr;
  /// What all processes that write into the folder need, from what this one does; called once,
  /// before the first byte.
  std::function<Result<std::uint64_t>(std::uint64_t own)> need_of_all = {};
};

/// The headers of the files, in their order. Errors: those of io::plan_safetensors.
[[nodiscard]] Result<std::vector<io::SafetensorsPlan>> plan_files(
    const std::vector<OutputFile>& files);

/// What these files look like on disk, so that those of an earlier run are known again.
[[nodiscard]] io::KnownFiles known_files(const std::vector<OutputFile>& files,
                                         const std::vector<io::SafetensorsPlan>& plans);

/// Writes every file into `folder` (which exists). On an error nothing appears under its final name
/// that is not whole. Errors: DiskFull (before the first byte when the disk cannot hold all of
/// them), PermissionDenied, IndexDisagrees (a source changed while it was read), Stopped.
[[nodiscard]] Result<io::Digests> write_files(const std::filesystem::path& folder,
                                              const std::vector<OutputFile>& files,
                                              std::vector<io::SafetensorsPlan> plans,
                                              const StreamOptions& options);

/// Reads the files back and compares fingerprints. What the page cache holds of them is dropped
/// first, so that the bytes come from the device, where there is one.
/// Errors: WriteLost naming file and tensor.
[[nodiscard]] Status verify_files(const std::filesystem::path& folder, const io::Digests& digests,
                                  int jobs);

}  // namespace bv::convert
