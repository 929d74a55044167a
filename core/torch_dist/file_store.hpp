#pragma once
// A file of torch.save as a store: a state dict, one chunk a tensor.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/tensor_store.hpp"

namespace bv::torch_dist {

/// Const members may be called by many threads at once.
class FileStore : public io::TensorStore {
 public:
  /// The tensors of the dict that the file holds, or of the dict under `key` in it ("model" of a
  /// Megatron file). What is no tensor is left out. Errors: ReadFailed, PermissionDenied,
  /// OutOfMemory, ZipInvalid, PickleGlobal; PickleInvalid when there is no such dict, or a tensor
  /// of it cannot be read; DuplicateKey.
  static Result<FileStore> open(const std::filesystem::path& path, std::string_view key = "");

  FileStore(FileStore&&) noexcept;
  FileStore& operator=(FileStore&&) noexcept;
  ~FileStore() override;

  [[nodiscard]] const TensorSpec* find(std::string_view tensor) const override;
  [[nodiscard]] Headers headers() const override;
  [[nodiscard]] std::vector<io::Chunk> chunks(const TensorSpec& tensor) const override;
  [[nodiscard]] const std::vector<std::filesystem::path>& files() const override;
  [[nodiscard]] std::uint64_t total_bytes() const override;
  [[nodiscard]] Status unchanged() const override;
  void release(std::span<const std::byte> range) const override;

  /// A number among the arguments of the run that Megatron keeps under "args".
  [[nodiscard]] std::optional<std::int64_t> argument(std::string_view name) const;
  /// Names of the dict that are no tensors.
  [[nodiscard]] std::int64_t left_out() const;
  /// Reads all data and compares the checksums that torch.save wrote; PyTorch does not. Errors:
  /// ZipInvalid naming the record.
  [[nodiscard]] Status check_sums() const;

 private:
  struct State;
  explicit FileStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// One file of a checkpoint by ranks: mp_rank_00_001/model_optim_rng.pt of Megatron, or
/// mp_rank_00_001.safetensors of a program that wrote its parameters.
struct LegacyFile {
  std::filesystem::path path;
  std::int64_t tp = 0;
  std::vector<std::int64_t> others;  // the numbers behind it: pp, ep, or both
};

/// The models that a rank's .pt file holds: "model", or "model0", "model1", ... of its virtual
/// stages in their order. Errors: those of FileStore::open.
[[nodiscard]] Result<std::vector<FileStore>> open_models(const std::filesystem::path& path);

/// The files of a legacy checkpoint in `folder`, by ascending rank; empty when there are none.
[[nodiscard]] std::vector<LegacyFile> legacy_files(const std::filesystem::path& folder);

}  // namespace bv::torch_dist
