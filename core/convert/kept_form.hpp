#pragma once
// What a Megatron folder keeps of a quantised HF folder beside the plain weights, so that the
// quantised form comes back: the companions of the weights, what the shards lose, the config and the index as they were,
// and fingerprints of all stored tensors.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/hf_model.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/convert/carry.hpp"
#include "core/convert/stream.hpp"

namespace bv::convert {

/// A tensor of `store`, which must outlive it, as it lies there; windows are made of whole
/// granules.
[[nodiscard]] OutputTensor as_stored(const io::TensorStore& store, const TensorSpec& spec,
                                     std::int64_t granule = 1);

/// `source` must outlive it.
struct KeptForm {
  checkpoint::QuantisedSide side;  // sealed by `seal`
  std::vector<const checkpoint::Dequantised*> weights;
  std::size_t beside = 0;  // companions that are of no weight
  OutputFile companions;
  CarryPlan carried;  // below kQuantisedFolder
};

/// The form of those dequantised weights that come back, and as companions all that shards of
/// `policy` cannot give back: tensors that no rule reads, and those that lose bits. nullopt when
/// there are no such weights. Errors: those of plan_hf_side and find_losses.
[[nodiscard]] Result<std::optional<KeptForm>> keep_form(
    const checkpoint::HfModel& source, const checkpoint::MegatronFolder& description,
    const plan::DtypePolicy& policy, int jobs, bool follow_links);

/// Fills in the fingerprints: those of the companions were made when they were written, those of
/// the values are made here, one pass over them. `notes` says what is kept, and of which weights
/// codes cannot be told from their values. Errors: Stopped.
[[nodiscard]] Status seal(const checkpoint::HfModel& source,
                          std::map<std::string, std::string> companions,
                          std::map<std::string, io::FilePrint> carried, int jobs,
                          ProgressSink* progress, KeptForm& form, std::vector<std::string>& notes);

}  // namespace bv::convert
