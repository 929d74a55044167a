#pragma once
// The HF model that a Megatron checkpoint is compared with, or gets its names from: opened as it
// was when the checkpoint was written, with the adapter that was merged into it.

#include <optional>
#include <string>

#include "ci/cli/commands/merging_source.hpp"
#include "ci/cli/session/written_with.hpp"

namespace bv::cli {

struct WrittenSide {
  std::optional<WrittenWith> written;    // where the checkpoint is one of ours
  std::optional<MergingSource> merging;  // --adapter: what the model reads

  /// The options with what the checkpoint says.
  [[nodiscard]] const Options& options(const Options& given) const {
    return written ? written->options : given;
  }
  /// A record of a torch_dist checkpoint has no fingerprints.
  [[nodiscard]] const checkpoint::MegatronFolder* fingerprints() const {
    return written && !written->manifest.digests.empty() ? &written->manifest : nullptr;
  }
  /// Errors: those of open_model and open_merging.
  [[nodiscard]] Result<OpenedModel> open(Context& context, const Options& given,
                                         const std::string& model, const Library& library,
                                         Run& run);
  /// The same for who compares elements, with notes about the adapter.
  [[nodiscard]] Result<OpenedModel> open_wanted(Context& context, const Options& given,
                                                const std::string& model, const Library& library,
                                                Run& run);
};

}  // namespace bv::cli
