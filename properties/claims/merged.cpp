#include "properties/claims/merged.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "core/io/whole_tensor.hpp"
#include "core/lora/tied_head.hpp"
#include "core/merge/merge_ties.hpp"
#include "properties/claims/merged_tensor.hpp"

namespace bv::claims {
namespace {

using oracle::MergeTally;

/// A tensor that the adapter leaves alone; nullopt when it is the base's.
std::optional<Verdict> judge_kept(const std::string& tensor, std::span<const std::byte> base,
                                  std::span<const std::byte> found) {
  const auto left = std::mismatch(base.begin(), base.end(), found.begin()).first;
  if (left == base.end()) {
    return std::nullopt;
  }
  return refuted_merge(tensor, Code::BytesDiffer,
                       tensor + " was changed, and the adapter has nothing for it",
                       fmt::format("other bytes from byte {} on", left - base.begin()),
                       "the bytes of the base", "find out which program wrote the tensor");
}

/// Names, shapes and dtypes: what makes looking at values pointless.
std::optional<Verdict> judge_header(const TensorSpec& base, const io::StoredTensor* found) {
  if (found == nullptr) {
    return refuted_merge(base.name, Code::HfTensorMissing,
                         base.name + " is not in the merged checkpoint", "no such tensor",
                         "every tensor of the base", "merge again with bridge-verify lora merge");
  }
  if (found->spec.shape != base.shape) {
    return refuted_merge(base.name, Code::ShapeMismatch,
                         base.name + " has another shape than the base",
                         fmt::format("[{}]", fmt::join(found->spec.shape, ", ")),
                         fmt::format("[{}]", fmt::join(base.shape, ", ")),
                         "give the base that the adapter was merged into");
  }
  if (found->spec.dtype != base.dtype) {
    return refuted_merge(base.name, Code::DtypeChanged,
                         base.name + " has another dtype than the base",
                         std::string(name(found->spec.dtype)), std::string(name(base.dtype)),
                         "merge into the dtype of the base");
  }
  return std::nullopt;
}

/// Tensors that a merge must write although the base does not store them -> what they were one
/// with.
std::map<std::string, lora::Untied, std::less<>> new_tensors(const checkpoint::HfModel& base,
                                                             const lora::Edits& edits) {
  std::map<std::string, lora::Untied, std::less<>> out;
  for (const lora::Untied& one : lora::ties_broken(base, edits)) {
    if (one.is_new()) {
      out[one.made] = one;
    }
  }
  return out;
}

Verdict still_tied(const lora::Untied& one, bool there) {
  const bool edited = one.both || one.made == one.changed;
  return refuted_merge(
      one.made, Code::MergeTied,
      one.both
          ? fmt::format("the adapter changes {} and {} in different ways, and they are still one",
                        one.from, one.made)
          : fmt::format("the adapter changes {} alone, and the merge changed {} with it",
                        one.changed, one.other),
      there ? one.made + " with other bytes" : one.made + " tied to the merged " + one.from,
      edited ? fmt::format("{} as a tensor of its own: {} with the adapter", one.made, one.from)
             : fmt::format("{} as a tensor of its own, with the bytes that {} had", one.made,
                           one.from),
      "merge again with bridge-verify lora merge --untie");
}

/// The output layer of a tied base computes with the embedding as it was, or with what the adapter
/// makes of it.
Status judge_untied(const io::Checkpoint& source, const io::Checkpoint& merged,
                    const lora::Edits& edits,
                    const std::map<std::string, lora::Untied, std::less<>>& untied,
                    MergedJudgement& judgement) {
  for (const auto& [tensor, one] : untied) {
    const auto wanted = source.tensors().find(one.from);
    const auto found = merged.tensors().find(tensor);
    const bool there = found != merged.tensors().end();
    const auto edit = edits.find(tensor);
    if (there && edit != edits.end() && wanted != source.tensors().end()) {
      TensorSpec spec = wanted->second.spec;
      spec.name = tensor;
      MergeTally own;
      auto wrong = judge_header(spec, &found->second);
      if (!wrong) {
        BV_TRY(base, io::WholeTensor::read(source, wanted->second));
        BV_TRY(other, io::WholeTensor::read(merged, found->second));
        wrong = judge_merged_tensor(spec, base.bytes(), other.bytes(), edit->second, own);
      }
      judgement.verdicts.push_back(std::move(*wrong));
      judgement.tally.add(own);
      ++judgement.merged;
      continue;
    }
    bool same = there && wanted != source.tensors().end();
    if (same) {
      BV_TRY(left, io::WholeTensor::read(source, wanted->second));
      BV_TRY(right, io::WholeTensor::read(merged, found->second));
      same = std::ranges::equal(left.bytes(), right.bytes());
    }
    if (same) {
      Verdict held = merge_verdict(tensor, Outcome::Held);
      held.evidence.bytes = true;
      judgement.verdicts.push_back(std::move(held));
      continue;
    }
    judgement.verdicts.push_back(still_tied(one, there));
  }
  return Done{};
}

/// A bias for a layer that has none: whatever the checkpoint holds, the class loads no such tensor.
void judge_biases(const lora::Adapter& adapter, std::vector<Verdict>& verdicts) {
  for (const lora::BiasDelta& bias : adapter.biases) {
    if (!bias.of_layer) {
      verdicts.push_back(refuted_merge(
          bias.base, Code::AdapterNoForm,
          fmt::format("the adapter adds a bias to {}, and the base has no such tensor",
                      bias.base.substr(0, bias.base.rfind('.'))),
          bias.delta.key(), "no lora_B.bias on a layer without a bias",
          "use the adapter beside its base: no merge computes what it computes"));
    }
  }
}

/// Where the merge holds a tensor of the base: a stored copy that it leaves out is what it repeats,
/// the output layer only where the config ties it.
const io::StoredTensor* stored_in(const io::Checkpoint& merged, const checkpoint::HfModel& base,
                                  const std::string& tensor, bool ties) {
  const auto found = merged.tensors().find(tensor);
  if (found != merged.tensors().end()) {
    return &found->second;
  }
  for (const auto& [copy, original] : base.model.must_equal) {
    if (copy == tensor && (ties || copy != lora::head_name(base))) {
      const auto other = merged.tensors().find(original);
      return other == merged.tensors().end() ? nullptr : &other->second;
    }
  }
  return nullptr;
}

/// An output layer that the merge stores beside the embedding it is tied to.
bool repeats_embedding(const io::Checkpoint& merged, const checkpoint::HfModel& base,
                       const io::StoredTensor& head) {
  const auto tied = lora::tied_head(base);
  if (!tied || tied->weight.name != head.spec.name) {
    return false;
  }
  const auto embedding = merged.tensors().find(tied->stored);
  if (embedding == merged.tensors().end() || embedding->second.spec.dtype != head.spec.dtype ||
      embedding->second.spec.shape != head.spec.shape) {
    return false;
  }
  const auto left = merged.bytes(embedding->second);
  const auto right = merged.bytes(head);
  return std::equal(left.begin(), left.end(), right.begin(), right.end());
}

/// Tensors of the merge that the base does not have.
void judge_strays(const io::Checkpoint& merged, const checkpoint::HfModel& base,
                  const std::map<std::string, lora::Untied, std::less<>>& untied,
                  MergedJudgement& out) {
  for (const auto& [tensor, stored] : merged.tensors()) {
    if (base.checkpoint->tensors().contains(tensor) || untied.contains(tensor)) {
      continue;
    }
    if (repeats_embedding(merged, base, stored)) {
      out.notes.push_back(
          fmt::format("{} is stored by the merge alone, and repeats the embedding", tensor));
      continue;
    }
    out.verdicts.push_back(refuted_merge(
        tensor, Code::HfTensorUnused, tensor + " is not in the base", "a tensor of that name",
        "the tensors of the base alone", "give the base that the adapter was merged into"));
  }
}

}  // namespace

Result<MergedJudgement> judge_merged(const checkpoint::HfModel& base, const lora::Adapter& adapter,
                                     const io::Checkpoint& merged, bool ties, int jobs,
                                     ProgressSink* progress) {
  const io::Checkpoint& source = *base.checkpoint;
  const auto edits = lora::merged_edits(base, adapter);
  std::vector<const io::StoredTensor*> list;
  for (const auto& [tensor, stored] : source.tensors()) {
    list.push_back(&stored);
  }
  if (progress != nullptr) {
    progress->start("lora", source.total_bytes(), list.size());
  }
  std::vector<std::optional<Verdict>> verdicts(list.size());
  std::vector<MergeTally> tallies(list.size());
  BV_CHECK(for_each_parallel(list.size(), jobs, [&](std::size_t i) -> Status {
    const TensorSpec& spec = list[i]->spec;
    const io::StoredTensor* stored = stored_in(merged, base, spec.name, ties);
    verdicts[i] = judge_header(spec, stored);
    if (!verdicts[i]) {
      BV_TRY(whole, io::WholeTensor::read(source, *list[i]));
      BV_TRY(other, io::WholeTensor::read(merged, *stored));
      const auto edit = edits.find(spec.name);
      verdicts[i] = edit == edits.end()
                        ? judge_kept(spec.name, whole.bytes(), other.bytes())
                        : std::optional(judge_merged_tensor(spec, whole.bytes(), other.bytes(),
                                                            edit->second, tallies[i]));
      source.release(source.bytes(*list[i]));
      merged.release(merged.bytes(*stored));
    }
    if (progress != nullptr) {
      progress->advance(tensor_bytes(spec), 1, spec.name);
      if (progress->stop_requested()) {
        return fail(Code::Stopped, "stopped before the end").advise("run it again");
      }
    }
    return Done{};
  }));
  MergedJudgement out;
  Verdict kept = merge_verdict("the other tensors", Outcome::Held);
  kept.evidence.bytes = true;
  kept.cases = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!verdicts[i]) {
      ++kept.cases;
      continue;
    }
    if (tallies[i].worst_place && (out.worst.empty() || tallies[i].worst > out.tally.worst)) {
      out.worst = list[i]->spec.name;
    }
    out.tally.add(tallies[i]);
    out.merged += edits.contains(list[i]->spec.name) ? 1 : 0;
    out.verdicts.push_back(std::move(*verdicts[i]));
  }
  const auto untied = new_tensors(base, lora::edits_of(adapter));
  BV_CHECK(judge_untied(source, merged, edits, untied, out));
  judge_biases(adapter, out.verdicts);
  judge_strays(merged, base, untied, out);
  for (const auto& [copy, original] : base.model.must_equal) {
    if (!merged.tensors().contains(copy) && stored_in(merged, base, copy, ties) != nullptr) {
      out.notes.push_back(fmt::format(
          "{} is stored by the base alone, and judged as {} of the merge", copy, original));
    }
  }
  if (kept.cases > 0) {
    out.verdicts.push_back(std::move(kept));
  }
  return out;
}

}  // namespace bv::claims
