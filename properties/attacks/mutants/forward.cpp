#include "properties/attacks/mutants/forward.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/assert.hpp"
#include "core/kinds/values.hpp"
#include "properties/attacks/mutants/tags.hpp"
#include "properties/claims/forward_compare.hpp"
#include "properties/claims/small_model.hpp"

namespace bv::mutants {
namespace {

namespace fw = oracle::forward;

constexpr std::int64_t kTokens = 7;
constexpr std::uint64_t kSeed = 3;

fw::Tensor widened(const Tensor& tensor) {
  fw::Tensor out{tensor.shape, {}};
  const auto size = static_cast<std::size_t>(bytes(tensor.dtype));
  out.values.reserve(tensor.bytes.size() / size);
  for (std::size_t at = 0; at < tensor.bytes.size(); at += size) {
    out.values.push_back(kinds::load(tensor.bytes.data() + at, tensor.dtype));
  }
  return out;
}

fw::NamedTensors widened(const Tensors& tensors) {
  fw::NamedTensors out;
  for (const auto& [name, tensor] : tensors) {
    out.emplace(name, widened(tensor));
  }
  return out;
}

/// Shards that are not those of the right bridge, by file and local name.
using Changed = std::map<std::pair<std::size_t, std::string>, Tensor>;

/// One model on one layout: what the checkpoint computes, and the shards of the right bridge.
class WholeModel {
 public:
  WholeModel(const fw::Functions& oracle, fw::ModelFacts facts, fw::Inputs inputs,
             fw::Outputs wanted)
      : oracle_(oracle),
        facts_(std::move(facts)),
        inputs_(std::move(inputs)),
        wanted_(std::move(wanted)) {}

  void put_right(const Program& program, Image right) {
    files_ = program.files;
    for (std::size_t i = 0; i < program.files.size(); ++i) {
      const parallel::ShardKey& key = program.files[i];
      ranks_.push_back({key.pp, key.tp, key.ep, key.etp, key.vp, widened(right.files[i])});
    }
    right_ = std::move(right);
  }

  /// `part` holds the shards of some parameters; the others are those of the right bridge.
  Forward run(const std::vector<parallel::ShardKey>& files, const Image& part) {
    Changed changed;
    for (std::size_t i = 0; i < files.size(); ++i) {
      const auto file = static_cast<std::size_t>(std::find(files_.begin(), files_.end(), files[i]) -
                                                 files_.begin());
      BV_ASSERT(file < files_.size());
      for (const auto& [name, tensor] : part.files[i]) {
        const auto right = right_.files[file].find(name);
        if (right == right_.files[file].end() || right->second != tensor) {
          changed.emplace(std::pair(file, name), tensor);
        }
      }
    }
    if (changed.empty()) {
      return {};
    }
    if (changed != last_changed_) {
      last_answer_ = compute(changed);
      last_changed_ = std::move(changed);
    }
    return last_answer_;
  }

  Forward compute(const Changed& changed) const {
    std::vector<fw::RankTensors> ranks = ranks_;
    for (const auto& [at, tensor] : changed) {
      ranks[at.first].tensors.insert_or_assign(at.second, widened(tensor));
    }
    Forward out;
    const auto found = oracle_.megatron_forward(facts_, ranks, inputs_);
    if (!found) {
      out.refused = found.error();
      return out;
    }
    if (const auto result = claims::compared(wanted_, *found); result.first) {
      out.difference = result.first->largest;
      out.where = result.first->output;
    }
    return out;
  }

 private:
  const fw::Functions& oracle_;
  fw::ModelFacts facts_;
  fw::Inputs inputs_;
  fw::Outputs wanted_;
  std::vector<parallel::ShardKey> files_;
  std::vector<fw::RankTensors> ranks_;
  Image right_;
  Changed last_changed_;
  Forward last_answer_;
};

}  // namespace

Result<RunForward> forward_of(const Case& one, const Program& program,
                              const fw::Functions& oracle) {
  auto facts = oracle.read_facts(one.sample.config, "");
  if (!facts) {
    const Code why = facts.error().code;
    return why == Code::ArchitectureUnknown || why == Code::ConfigField
               ? Result<RunForward>(RunForward{})
               : Result<RunForward>(std::move(facts).error());
  }
  facts->moe.square_stacks_in_out = claims::stacks_in_out(one.model);
  Tensors hf = exact_values(one.headers);
  auto inputs = oracle.probe_inputs(*facts, kTokens, kSeed);
  BV_TRY(wanted, oracle.hf_forward(*facts, widened(hf), inputs));
  auto whole =
      std::make_shared<WholeModel>(oracle, std::move(*facts), std::move(inputs), std::move(wanted));
  whole->put_right(program, run_import(program, program, hf, poison));
  const Forward right = whole->compute({});
  if (right.refused) {
    return Error(*right.refused);
  }
  if (!right.where.empty()) {
    return fail(Code::ForwardDiffers, fmt::format("a right bridge computes something else: {} "
                                                  "differs by {:.3g}",
                                                  right.where, right.difference))
        .advise("correct the rule or the forward oracle before planting faults");
  }
  return RunForward([whole](const std::vector<parallel::ShardKey>& files, const Image& part) {
    return whole->run(files, part);
  });
}

}  // namespace bv::mutants
