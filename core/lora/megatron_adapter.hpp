#pragma once
// A Megatron adapter on disk: one file a rank, every adapter parameter of the rank in it, named as
// Megatron names it. Ours has adapter.json beside them; one from elsewhere has its layout and scale
// stated.

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/io/checkpoint.hpp"
#include "core/lora/adapter.hpp"
#include "core/lora/adapter_record.hpp"
#include "core/lora/sites.hpp"

namespace bv::lora {

/// How the experts of a grouped layer hold a factor.
enum class ExpertForm {
  None,    // no grouped experts: a matrix
  Each,    // [experts, ...]: one an expert
  Shared,  // a matrix, equal on all ranks of expert parallelism
};

/// The factors of one module on one rank.
struct ModuleShard {
  std::size_t shard = 0;  // of the SitePlan
  const io::StoredTensor* a = nullptr;
  const io::StoredTensor* b = nullptr;
  const io::StoredTensor* magnitude = nullptr;
};

/// One adapter module of the model: a site, or one key of it.
struct AdapterModule {
  std::size_t site = 0;
  std::string key;  // "adapter_q", "" without
  std::int64_t rank = 0;
  double alpha = 0;
  ExpertForm a_form = ExpertForm::None;
  ExpertForm b_form = ExpertForm::None;
  bool whole = false;                 // a plain nn.Linear: nothing is cut
  std::vector<ModuleShard> shards;    // distinct ones
  std::vector<ModuleShard> replicas;  // of one of them
};

struct MegatronAdapter {
  std::filesystem::path folder;
  std::optional<AdapterRecord> record;
  parallel::Layout layout;
  std::vector<io::Checkpoint> files;   // in the order of the plan
  std::vector<AdapterModule> modules;  // by name
  std::vector<AdapterFault> faults;
  std::vector<std::string> notes;
  std::int64_t parameters = 0;  // of all files
};

/// Of all tensors of a file, by name: XXH3-128, as adapter.json has it.
[[nodiscard]] std::string file_digest(const std::map<std::string, std::string>& tensors);
[[nodiscard]] std::string digest_of(std::span<const std::byte> bytes);
[[nodiscard]] std::string digest_of_tensors(const io::Checkpoint& file);

/// A file of a rank that holds what another one held when the adapter was converted.
struct ExchangedFile {
  std::string name, of;
};
/// By the fingerprints of adapter.json; none without one, and none of a file that was trained.
/// `plan` is that of the files.
[[nodiscard]] std::vector<ExchangedFile> exchanged_files(const MegatronAdapter& adapter,
                                                         const plan::Plan& plan);

/// What a folder without adapter.json does not say.
struct StatedAdapter {
  parallel::Layout layout;
  std::optional<double> alpha;  // of every module
};

/// The layout that the names of shard files show: the largest coordinates. nullopt when a folder
/// has no such file. It knows nothing of uneven stages.
[[nodiscard]] std::optional<parallel::Layout> layout_from_files(
    const std::filesystem::path& folder);
/// adapter.json of a folder; nullopt without one. Errors: those of parse_record.
[[nodiscard]] Result<std::optional<AdapterRecord>> read_record(const std::filesystem::path& folder);

/// `sites` are those of the base on the layout of the adapter. Faults, by name: AdapterName (a
/// parameter that is no adapter's, or of a layer that this rank does not have), AdapterPairBroken
/// (a factor that is missing on a rank, is empty, or has another rank than its partner or its
/// shards), AdapterShape, ExpertPairCount, AdapterReplicas. Errors: AdapterInvalid (a file of a
/// rank is missing, no scale is known), those of Checkpoint::open.
[[nodiscard]] Result<MegatronAdapter> open_megatron_adapter(const std::filesystem::path& folder,
                                                            const SitePlan& sites,
                                                            std::optional<AdapterRecord> record,
                                                            const StatedAdapter& stated);

}  // namespace bv::lora
