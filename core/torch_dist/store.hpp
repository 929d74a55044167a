#pragma once
// A Megatron torch_dist checkpoint as a store: global tensors by their keys, in chunks.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/tensor_store.hpp"

namespace bv::torch_dist {

/// What beside the weights lies in a checkpoint, counted.
struct Beside {
  std::int64_t optimizer_tensors = 0;
  std::int64_t objects = 0;  // extra states, common state, random numbers
  /// Extra states that modules of the same kind have and these do not, by name, sorted.
  std::vector<std::string> absent_states;
};

/// "12 objects (extra states, common state) are not looked at", a sentence for the user.
[[nodiscard]] std::string beside_text(const Beside& beside);
/// That sentence, and one about extra states that are absent where there are some.
void tell_beside(const Beside& beside, std::vector<std::string>& notes);

/// Const members may be called by many threads at once.
class DistCheckpoint : public io::TensorStore {
 public:
  /// `folder` holds .metadata and the *.distcp files (iter_0000000). Tensors of the optimizer are
  /// left out. Every item of a tensor is opened: its archive, type, shape and size are those that
  /// .metadata states; its data is not read. Errors: DistMetadataInvalid, PickleInvalid,
  /// PickleGlobal, ZipInvalid, ChunksInvalid, UnsafePath, ReadFailed, PermissionDenied,
  /// OutOfMemory.
  static Result<DistCheckpoint> open(const std::filesystem::path& folder);

  DistCheckpoint(DistCheckpoint&&) noexcept;
  DistCheckpoint& operator=(DistCheckpoint&&) noexcept;
  ~DistCheckpoint() override;

  [[nodiscard]] const TensorSpec* find(std::string_view tensor) const override;
  [[nodiscard]] Headers headers() const override;
  [[nodiscard]] std::vector<io::Chunk> chunks(const TensorSpec& tensor) const override;
  [[nodiscard]] const std::vector<std::filesystem::path>& files() const override;
  [[nodiscard]] std::uint64_t total_bytes() const override;
  [[nodiscard]] Status unchanged() const override;
  void release(std::span<const std::byte> range) const override;

  [[nodiscard]] const Beside& beside() const;
  /// The names of the files that hold chunks of a tensor, in order.
  [[nodiscard]] std::vector<std::string> files_of(const TensorSpec& tensor) const;
  /// Reads all data of the tensors and compares the checksums that torch.save wrote; PyTorch does
  /// not. A file whose checksums are all wrong was written without them: a note in `notes`. Errors:
  /// ZipInvalid naming the tensor.
  [[nodiscard]] Status check_sums(int jobs, std::vector<std::string>& notes) const;

 private:
  struct State;
  explicit DistCheckpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace bv::torch_dist
