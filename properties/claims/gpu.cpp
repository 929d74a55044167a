#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <set>
#include <unordered_set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/source_tensor.hpp"
#include "core/io/digest.hpp"
#include "core/move/tensor_maker.hpp"
#include "properties/claims/catalogue.hpp"
#include "properties/claims/dtypes.hpp"
#include "properties/claims/roundtrip.hpp"

namespace bv::claims {
namespace {

constexpr std::int64_t kComparedBytes = std::int64_t{16} << 20;

/// The first element that the two make differently.
struct DeviceDifference {
  std::string tensor;
  std::int64_t t = 0;
  std::int64_t element = 0;
  std::string wanted_bits, found_bits;
};

std::string hex(const std::byte* element, std::size_t size) {
  std::string out;
  for (std::size_t i = size; i-- > 0;) {
    out += fmt::format("{:02x}", std::to_integer<unsigned>(element[i]));
  }
  return "0x" + out;
}

/// Layouts cut many shards alike: each is made once, and this keeps what came of it.
struct SeenShards {
  std::unordered_set<std::uint64_t> right;
  std::map<std::uint64_t, DeviceDifference> wrong;
};

/// How many shards a verdict stands on.
struct ShardCount {
  std::int64_t made = 0;    // on both
  std::int64_t before = 0;  // cut as on a layout before
};

/// What a recipe of this mapping makes, in 64 bits.
std::uint64_t digest_of(std::uint32_t mapping, const move::Recipe& recipe) {
  io::Digest digest;
  const auto add = [&](const auto& value) { digest.add(std::as_bytes(std::span(&value, 1))); };
  add(mapping);
  add(recipe.elements);
  for (const layout::Box& box : recipe.boxes) {
    add(box.source);
    add(box.source_offset);
    add(box.target_offset);
    add(box.axes.size());
    for (const layout::BoxAxis& axis : box.axes) {
      add(axis);
    }
  }
  const std::string hex = digest.hex();
  std::uint64_t out = 0;
  std::from_chars(hex.data(), hex.data() + 16, out, 16);
  return out;
}

/// One parameter of one rank, as it is converted: cast and summed.
move::Recipe recipe_of(const Subject& subject, const Part& part, const plan::Plan& plan,
                       const plan::Target& target) {
  const model::Mapping& mapping = plan.model().mappings[target.mapping];
  layout::Shard shard = plan.shard(target);
  move::Recipe out;
  out.dtype = plan::target_dtype(*mapping.rule, plan::dtypes_of(part.source->headers, mapping),
                                 subject.dtype);
  out.elements = element_count(shard.shape).value();
  out.boxes = std::move(shard.boxes);
  out.add = mapping.rule->value.added_on_import();
  const io::Checkpoint& checkpoint = *part.source->checkpoint;
  std::vector<checkpoint::SourceTensor> sources;
  for (const std::string& hf : mapping.hf) {
    sources.push_back({&checkpoint, checkpoint.find(hf)});
  }
  return checkpoint::over_chunks(std::move(out), sources);
}

/// Both make the same windows over different poisons. Errors: those of the device.
Result<std::optional<DeviceDifference>> compare(const move::Recipe& recipe,
                                                move::Executor& device) {
  move::TensorMaker by_processor(recipe);
  move::TensorMaker by_device(recipe, &device);
  const std::int64_t size = bytes(recipe.dtype);
  const std::int64_t step = std::max<std::int64_t>(1, kComparedBytes / size);
  std::vector<std::byte> wanted;
  std::vector<std::byte> found;
  for (std::int64_t begin = 0; begin < recipe.elements; begin += step) {
    const std::int64_t end = std::min(recipe.elements, begin + step);
    wanted.assign(static_cast<std::size_t>((end - begin) * size), kPoison);
    found.assign(wanted.size(), kOtherPoison);
    BV_CHECK(by_processor.make(ElementOffset(begin), ElementOffset(end), wanted.data()));
    BV_CHECK(by_device.make(ElementOffset(begin), ElementOffset(end), found.data()));
    const auto [a, b] = std::mismatch(wanted.begin(), wanted.end(), found.begin());
    if (a != wanted.end()) {
      const std::int64_t at = (a - wanted.begin()) / size;
      const auto width = static_cast<std::size_t>(size);
      return std::optional(DeviceDifference{
          "", 0, begin + at, hex(&wanted[static_cast<std::size_t>(at) * width], width),
          hex(&found[static_cast<std::size_t>(at) * width], width)});
    }
  }
  return std::optional<DeviceDifference>();
}

/// Every distinct shard of a mapping.
Result<std::optional<DeviceDifference>> compare_mapping(const Subject& subject, const Part& part,
                                                        const plan::Plan& plan,
                                                        std::uint32_t mapping,
                                                        SeenShards& seen_shards,
                                                        ShardCount& count) {
  std::set<std::pair<std::int64_t, std::int64_t>> seen;
  for (const plan::Plan::Owner& owner : plan.owners()[mapping]) {
    const plan::Target& target = plan.files()[owner.file].targets[owner.target];
    if (!seen.emplace(target.t, target.expert).second) {
      continue;
    }
    const move::Recipe recipe = recipe_of(subject, part, plan, target);
    const std::uint64_t digest = digest_of(mapping, recipe);
    if (seen_shards.right.contains(digest)) {
      ++count.before;
      continue;
    }
    if (const auto wrong = seen_shards.wrong.find(digest); wrong != seen_shards.wrong.end()) {
      return std::optional(wrong->second);
    }
    BV_TRY(found, compare(recipe, *subject.budget.device));
    ++count.made;
    if (found) {
      found->tensor = target.global_name;
      found->t = target.t;
      seen_shards.wrong.emplace(digest, *found);
      return std::move(found);
    }
    seen_shards.right.insert(digest);
  }
  return std::optional<DeviceDifference>();
}

std::string text_of(const ShardCount& count) {
  std::string out =
      counted(static_cast<std::uint64_t>(count.made), "shard") + " compared bit for bit";
  return count.before == 0
             ? out
             : fmt::format("{}; {} more cut as on a layout before", out, thousands(count.before));
}

void refute(Verdict& verdict, const DeviceDifference& difference, const family::Rule& rule) {
  verdict.outcome = Outcome::Refuted;
  verdict.code = Code::CpuGpuDiffer;
  verdict.evidence = {};
  verdict.title =
      fmt::format("the GPU computes {} differently from the processor", difference.tensor);
  verdict.found = difference.found_bits;
  verdict.wanted = difference.wanted_bits;
  verdict.help = "convert with --device cpu; report it with the output of bridge-verify doctor";
  Counterexample example;
  example.tensor = difference.tensor;
  example.rank = fmt::format("{}{}", rule.expert ? "etp" : "tp", difference.t);
  example.index = {difference.element};
  example.wanted_bits = difference.wanted_bits;
  example.found_bits = difference.found_bits;
  verdict.counterexamples.push_back(std::move(example));
}

void leave_open(Verdict& verdict, Code code, std::string title, std::string help) {
  verdict.outcome = Outcome::Inconclusive;
  verdict.evidence = {};
  verdict.code = code;
  verdict.title = std::move(title);
  verdict.help = std::move(help);
}

Verdict judge_use(const Subject& subject, const RuleUse& use, const Result<plan::Plan>& plan,
                  const std::string& id, SeenShards& seen_shards) {
  Verdict verdict = about(subject, "gpu", use, id);
  verdict.cases = use.parameters;
  verdict.outcome = Outcome::Held;
  verdict.evidence.gpu = true;
  const Dtypes dtypes(subject);
  if (subject.budget.device == nullptr) {
    leave_open(verdict, Code::NoGpu, "there is no GPU to compare with",
               "add --device cuda where a GPU is; bridge-verify doctor says what is here");
  } else if (!use.part->source->checkpoint) {
    leave_open(verdict, Code::NoBytes, "there are no bytes to move: the model is headers only",
               "give the directory with the weights");
  } else if (!plan) {
    leave_open(verdict, plan.error().code, plan.error().message, plan.error().help);
  } else if (dtypes.refuses(use)) {
    dtypes.mark(*use.part, verdict);
  } else {
    ShardCount count;
    for (const std::uint32_t mapping : use.mappings) {
      auto found = compare_mapping(subject, *use.part, *plan, mapping, seen_shards, count);
      if (!found) {
        leave_open(verdict, found.error().code, found.error().message, found.error().help);
        break;
      }
      if (*found && verdict.refuted_cases++ == 0) {
        refute(verdict, **found, *use.rule);
      }
    }
    if (verdict.outcome == Outcome::Held) {
      verdict.facts.push_back(text_of(count));
    }
  }
  return verdict;
}

}  // namespace

std::int64_t count_gpu(const Subject& subject) {
  return std::ssize(subject.layouts) * sum_of(subject, &RuleUse::parameters);
}

std::vector<Verdict> check_gpu(const Subject& subject) {
  std::vector<Verdict> out;
  const std::vector<RuleUse> uses = rule_uses(subject);
  std::map<const Part*, SeenShards> seen_shards;
  for (const parallel::Layout& layout : subject.layouts) {
    for (const Part& part : subject.parts) {
      const auto plan = plan::Plan::make(part.source->model, *subject.kinds, layout);
      for (const RuleUse& use : uses) {
        if (use.part == &part) {
          out.push_back(
              judge_use(subject, use, plan, parallel::layout_id(layout), seen_shards[&part]));
        }
      }
    }
  }
  return out;
}

}  // namespace bv::claims
