#include "properties/attacks/fuzz/rank_faults.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>

#include "core/base/arith.hpp"
#include "core/io/writer.hpp"
#include "core/lora/megatron_adapter.hpp"
#include "core/lora/to_hf.hpp"
#include "core/lora/to_megatron.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::fuzz {
namespace fs = std::filesystem;

namespace {

using generators::Random;

struct RankTensor {
  TensorSpec spec;
  std::vector<std::byte> bytes;
  bool operator==(const RankTensor&) const = default;
};
using RankFile = std::map<std::string, RankTensor>;
/// An adapter as its folder holds it.
struct Ranks {
  std::map<std::string, RankFile> files;
  lora::AdapterRecord record;
};

/// The base on one layout, as it is and as PEFT names it.
struct Ways {
  std::unique_ptr<model::Model> of_class;
  std::unique_ptr<plan::Plan> plan, class_plan;
  std::optional<lora::SitePlan> sites, class_sites;

  static Result<Ways> make(const checkpoint::HfModel& base, const kinds::Catalogue& kinds,
                           const parallel::Layout& layout) {
    Ways out;
    BV_TRY(of_class, lora::class_model(base));
    out.of_class = std::make_unique<model::Model>(std::move(of_class));
    BV_TRY(plan, plan::Plan::make(base.model, kinds, layout));
    out.plan = std::make_unique<plan::Plan>(std::move(plan));
    BV_TRY(class_plan, plan::Plan::make(*out.of_class, kinds, layout));
    out.class_plan = std::make_unique<plan::Plan>(std::move(class_plan));
    BV_TRY(sites, lora::SitePlan::make(*out.plan, kinds));
    out.sites.emplace(std::move(sites));
    BV_TRY(class_sites, lora::SitePlan::make(*out.class_plan, kinds));
    out.class_sites.emplace(std::move(class_sites));
    return out;
  }
};

/// What a conversion would write.
Result<Ranks> ranks_of(const lora::MegatronAdapterFiles& planned) {
  Ranks out;
  out.record = planned.record;
  for (const convert::OutputFile& file : planned.files) {
    RankFile& tensors = out.files[file.name];
    for (const convert::OutputTensor& tensor : file.tensors) {
      const std::int64_t elements = element_count(tensor.spec.shape).value();
      move::TensorMaker maker(checkpoint::over_chunks(
          {tensor.spec.dtype, elements, tensor.boxes(), {}}, tensor.sources));
      RankTensor& made = tensors[tensor.spec.name];
      made.spec = tensor.spec;
      made.bytes.resize(static_cast<std::size_t>(elements) * maker.element_bytes());
      BV_CHECK(maker.make(ElementOffset{0}, ElementOffset{elements}, made.bytes.data()));
    }
  }
  return out;
}

/// Nobody else reads them: they need not reach the disk.
Status write_ranks(const Ranks& ranks, const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  for (const auto& [file_name, tensors] : ranks.files) {
    std::vector<TensorSpec> specs;
    for (const auto& [name, tensor] : tensors) {
      specs.push_back(tensor.spec);
      specs.back().name = name;
    }
    BV_TRY(plan, io::plan_safetensors(std::move(specs), {}));
    std::ofstream out(folder / file_name, std::ios::binary);
    out << plan.header;
    for (const TensorSpec& spec : plan.tensors) {
      const std::vector<std::byte>& bytes = tensors.at(spec.name).bytes;
      out.write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    }
    if (!out.good()) {
      return fail(Code::WriteLost, fmt::format("{} cannot be written", file_name))
          .at((folder / file_name).string())
          .advise("free space in the temporary folder");
    }
  }
  return Done{};
}

/// The ranks of a folder as pairs on the base, or their faults alone.
Result<lora::Adapter> pairs_in(const fs::path& folder, const Ranks& ranks, const Ways& ways,
                               const checkpoint::HfModel& base, const kinds::Catalogue& kinds) {
  BV_TRY(opened, lora::open_megatron_adapter(folder, *ways.sites, ranks.record,
                                             {ranks.record.layout, std::nullopt}));
  if (!opened.faults.empty()) {
    lora::Adapter out;
    out.faults = opened.faults;
    out.keys = opened.parameters;
    return out;
  }
  BV_TRY(files, lora::plan_to_hf(opened, *ways.sites, *ways.class_sites, base));
  return lora::adapter_in_memory(files, base, kinds);
}

/// One parameter of one file.
struct Spot {
  RankFile& file;
  RankFile::iterator at;
};

std::vector<Spot> spots(Ranks& ranks, std::string_view ending) {
  std::vector<Spot> out;
  for (auto& [name, file] : ranks.files) {
    for (auto at = file.begin(); at != file.end(); ++at) {
      if (at->first.ends_with(ending)) {
        out.push_back({file, at});
      }
    }
  }
  return out;
}

constexpr std::string_view kIn = ".linear_in.weight";
constexpr std::string_view kOut = ".linear_out.weight";

/// The first dimension in two halves, exchanged.
void exchange_halves(RankTensor& tensor, std::size_t dimension) {
  const auto outer = static_cast<std::size_t>(dimension == 0 ? 1 : tensor.spec.shape[0]);
  const std::size_t part = tensor.bytes.size() / outer;
  const auto rows = static_cast<std::size_t>(tensor.spec.shape[dimension]);
  for (std::size_t i = 0; i < outer && rows > 0; ++i) {
    const auto begin = tensor.bytes.begin() + static_cast<std::ptrdiff_t>(i * part);
    std::rotate(begin, begin + static_cast<std::ptrdiff_t>(rows / 2 * (part / rows)),
                begin + static_cast<std::ptrdiff_t>(part));
  }
}

bool is_zero(const RankTensor& tensor) {
  return std::all_of(tensor.bytes.begin(), tensor.bytes.end(),
                     [](std::byte one) { return one == std::byte{0}; });
}

/// The values of a tensor of the same name in another file. A rank that holds the padding of a
/// factor alone is no place: its partner is zero there, and no delta changes.
bool take_from_another(Ranks& ranks, const Spot& spot) {
  if (is_zero(spot.at->second)) {
    return false;
  }
  for (auto& [name, file] : ranks.files) {
    const auto other = file.find(spot.at->first);
    if (&file != &spot.file && other != file.end() &&
        other->second.spec.shape == spot.at->second.spec.shape &&
        other->second.bytes != spot.at->second.bytes) {
      spot.at->second.bytes = other->second.bytes;
      return true;
    }
  }
  return false;
}

/// A copy that all ranks must agree on, on one of them. Ranks that hold nothing but the zeros of a
/// padded factor agree by chance.
bool drift(Ranks& ranks, const Spot& spot) {
  std::vector<std::byte>& bytes = spot.at->second.bytes;
  const auto at =
      std::find_if(bytes.begin(), bytes.end(), [](std::byte one) { return one != std::byte{0}; });
  if (at == bytes.end()) {
    return false;
  }
  for (auto& [name, file] : ranks.files) {
    const auto other = file.find(spot.at->first);
    if (&file != &spot.file && other != file.end() && other->second == spot.at->second) {
      *at ^= std::byte{1};
      return true;
    }
  }
  return false;
}

void set_alphas(lora::AdapterRecord& record) {
  for (auto& [module, layer] : record.layers) {
    layer.alpha = static_cast<double>(layer.rank) * static_cast<double>(layer.rank) / layer.alpha;
  }
}

/// False when there is no place for the fault.
bool plant(Ranks& ranks, AdapterFault fault, Random& random) {
  const bool into_b = fault == AdapterFault::RankRows || fault == AdapterFault::RankExperts;
  const std::vector<Spot> all = spots(ranks, into_b || random.below(2) == 0 ? kOut : kIn);
  if (all.empty()) {
    return false;
  }
  const Spot& spot = all[random.below(all.size())];
  RankTensor& tensor = spot.at->second;
  const std::size_t dims = tensor.spec.shape.size();
  if (fault == AdapterFault::RankParameter) {
    spot.file.erase(spot.at);
  } else if (fault == AdapterFault::RankWrapper) {
    auto node = spot.file.extract(spot.at);
    node.key().insert(node.key().find(".adapter.") + 1, "to_wrap.");
    spot.file.insert(std::move(node));
  } else if (fault == AdapterFault::RankOther) {
    return take_from_another(ranks, spot);
  } else if (fault == AdapterFault::RankDrift) {
    return std::any_of(all.begin(), all.end(), [&](const Spot& one) { return drift(ranks, one); });
  } else if (fault == AdapterFault::RankRows) {
    exchange_halves(tensor, dims == 3 ? 1 : 0);
  } else if (fault == AdapterFault::RankExperts) {
    const auto stack = std::find_if(all.begin(), all.end(), [](const Spot& one) {
      return one.at->second.spec.shape.size() == 3 && one.at->second.spec.shape[0] > 1;
    });
    if (stack == all.end()) {
      return false;
    }
    exchange_halves(stack->at->second, 0);
  } else if (fault == AdapterFault::RankWhole) {
    tensor.spec.shape[dims - 2] *= 2;
    const std::vector<std::byte> once = tensor.bytes;
    tensor.bytes.insert(tensor.bytes.end(), once.begin(), once.end());
  } else {
    BV_ASSERT(fault == AdapterFault::RankAlpha);
    set_alphas(ranks.record);
  }
  return true;
}

}  // namespace

Result<RankTrial> try_ranks(const lora::Adapter& adapter, const checkpoint::HfModel& base,
                            const kinds::Catalogue& kinds, const parallel::Layout& layout,
                            const fs::path& folder, Random& random) {
  RankTrial out;
  BV_TRY(ways, Ways::make(base, kinds, layout));
  const fs::path right_folder = folder / "right";
  const fs::path faulty_folder = folder / "faulty";
  lora::ToMegatronOptions options;
  options.canonical = random.below(3) == 0;
  const auto planned = lora::plan_to_megatron(adapter, *ways.sites, options);
  if (!planned) {
    return out;  // a factor that is cut unevenly
  }
  BV_TRY(ranks, ranks_of(*planned));
  BV_CHECK(write_ranks(ranks, right_folder));
  BV_TRY(right, pairs_in(right_folder, ranks, ways, base, kinds));
  BV_TRY(of_right, seen_of(right, right, base, kinds));
  if (!of_right.empty()) {
    return fail(Code::MutantSurvived,
                fmt::format("right ranks are refuted by {}", of_right.front()))
        .advise("correct the claim before planting faults");
  }
  for (const AdapterFault fault : kRankFaults) {
    Ranks faulty = ranks;
    if (!plant(faulty, fault, random)) {
      continue;
    }
    const bool same = faulty.files == ranks.files && faulty.record.layers == ranks.record.layers;
    if (same) {
      out.unchanged.push_back(fault);
      continue;
    }
    BV_CHECK(write_ranks(faulty, faulty_folder));
    const auto found = pairs_in(faulty_folder, faulty, ways, base, kinds);
    if (found) {
      BV_TRY(seen, seen_of(*found, right, base, kinds));
      out.seen[fault] = std::move(seen);
    } else {
      out.seen[fault] = {kRefusedAdapter};
    }
    std::error_code ignored;
    fs::remove_all(faulty_folder, ignored);
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return out;
}

}  // namespace bv::fuzz
