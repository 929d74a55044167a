#pragma once
// The quantised form of an HF checkpoint, made of a Megatron folder that kept what it needs: byte
// for byte what the source had, or nothing.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/dequantise.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/checkpoint/megatron_shards.hpp"
#include "core/convert/fingerprints.hpp"
#include "core/convert/stream.hpp"
#include "core/io/checkpoint.hpp"

namespace bv::convert {

class RestoredStore;

class RestoredForm {
 public:
  /// `plain` are the files of the plain form. `source`, which has a quantised side, and what
  /// `plain` refers to must outlive it. Errors: those of checkpoint::kept_weights and of opening
  /// the companions; ManifestDisagrees when these are not the tensors of the manifest.
  static Result<RestoredForm> open(const checkpoint::MegatronFolder& source,
                                   std::vector<OutputFile> plain);
  RestoredForm(RestoredForm&&) noexcept;
  RestoredForm& operator=(RestoredForm&&) noexcept = delete;
  ~RestoredForm();

  [[nodiscard]] const std::vector<OutputFile>& outputs() const { return outputs_; }
  [[nodiscard]] const Headers& headers() const { return headers_; }
  /// HF tensors that lost bits in the shards and come back as the source stored them.
  [[nodiscard]] const std::vector<std::string>& lost_bits() const { return lost_bits_; }

  /// Companions against their fingerprints, then the codes of every weight against those of the
  /// source: what does not come back, by cause. Errors: Stopped; those of the shards.
  [[nodiscard]] Result<std::vector<FolderFault>> judge(int jobs, ProgressSink* progress) const;
  /// What was written against the fingerprints of the source. Errors: WriteLost.
  [[nodiscard]] Status check_written(const io::Digests& written) const;
  [[nodiscard]] std::string note() const;

 private:
  RestoredForm(const checkpoint::MegatronFolder& source, io::Checkpoint companions);
  void lay_out(std::vector<OutputFile> plain);
  [[nodiscard]] Result<std::vector<FolderFault>> judge_companions(int jobs) const;

  const checkpoint::MegatronFolder& source_;
  std::unique_ptr<const io::Checkpoint> companions_;
  std::vector<checkpoint::Dequantised> weights_;
  std::unique_ptr<RestoredStore> store_;
  Headers headers_;
  std::vector<std::string> lost_bits_;
  std::vector<OutputFile> outputs_;
};

}  // namespace bv::convert
