#include "properties/claims/dequantised.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "oracles/dequantise.hpp"

namespace bv::claims {
namespace {

using checkpoint::Dequantised;

/// A weight of so many elements is looked at as a whole.
constexpr std::int64_t kWhole = 4096;
constexpr std::int64_t kRanges = 9;
constexpr std::int64_t kRange = 67;  // crosses the edges of blocks

struct Difference {
  std::int64_t element = 0;
  std::uint64_t found = 0;
  std::uint64_t wanted = 0;
};

oracle::StoredNumbers numbers_of(const io::Checkpoint& checkpoint, const TensorSpec& spec) {
  const io::StoredTensor& stored = checkpoint.tensors().find(spec.name)->second;
  return {spec.dtype, spec.shape, checkpoint.bytes(stored)};
}

oracle::QuantisedWeight question_of(const Dequantised& one, const io::Checkpoint& checkpoint) {
  oracle::QuantisedWeight out;
  out.values = numbers_of(checkpoint, one.stored);
  out.scale = numbers_of(checkpoint, one.scale);
  out.product_in_scale_type = one.form.rounds_to_scale;
  if (one.form.values == kinds::QuantisedValues::PackedIntegers) {
    out.integer_bits = one.form.bits;
  }
  if (one.form.values != kinds::QuantisedValues::Fp4Transposed && !one.form.one_scale) {
    out.block = {one.form.block_rows, one.form.block_columns};
  }
  return out;
}

/// Elements [begin, end) of the weight as the engine makes them, against the oracle.
std::optional<Difference> differs_in(const Dequantised& one, const io::Checkpoint& checkpoint,
                                     const oracle::QuantisedWeight& question, std::int64_t begin,
                                     std::int64_t end) {
  const DType dtype = one.weight.dtype;
  const std::int64_t size = bytes(dtype);
  std::vector<std::byte> made(static_cast<std::size_t>((end - begin) * size));
  const ElementMaker& maker = *checkpoint.made().find(one.weight.name)->second.maker;
  BV_ASSERT(maker.make(begin, end, made.data()).has_value());  // every code stands for a number
  for (std::int64_t at = begin; at < end; ++at) {
    const auto index = index_of(at, one.weight.shape);
    const std::uint64_t wanted = oracle::dequantised_bits(question, index, dtype);
    const std::uint64_t found = oracle::plain_bits(made.data() + (at - begin) * size, dtype);
    if (found != wanted) {
      return Difference{at, found, wanted};
    }
  }
  return std::nullopt;
}

bool looks_at_parts(const Dequantised& one) {
  return element_count(one.weight.shape).value() > kWhole;
}

std::optional<Difference> first_difference(const Dequantised& one,
                                           const io::Checkpoint& checkpoint) {
  const auto question = question_of(one, checkpoint);
  const std::int64_t elements = element_count(one.weight.shape).value();
  const std::int64_t step = elements <= kWhole ? kRange : (elements - kRange) / (kRanges - 1);
  for (std::int64_t begin = 0; begin < elements; begin += std::max<std::int64_t>(step, 1)) {
    if (auto found =
            differs_in(one, checkpoint, question, begin, std::min(elements, begin + kRange))) {
      return found;
    }
  }
  return std::nullopt;
}

std::string scheme_of(const Dequantised& one) {
  return fmt::format("{} x {}", name(one.stored.dtype), name(one.scale.dtype));
}

Verdict about_weights(const Subject& subject, const std::string& rule, const std::string& weight,
                      std::int64_t cases) {
  Verdict out;
  out.claim = "values";
  out.rule = "dequantised:" + rule;
  out.kind = "dequantised";
  out.hf = {weight};
  out.cases = cases;
  out.replay = subject.replay + " --only values";
  return out;
}

Verdict refuted(const Subject& subject, const Dequantised& one, const Difference& difference) {
  Verdict out = about_weights(subject, one.weight.name, one.weight.name, 1);
  const int digits = static_cast<int>(bytes(one.weight.dtype)) * 2;
  out.outcome = Outcome::Refuted;
  out.code = Code::BytesDiffer;
  out.refuted_cases = 1;
  out.title =
      fmt::format("{} is not what {} and {} say", one.weight.name, one.stored.name, one.scale.name);
  out.found = fmt::format("element {}: 0x{:0{}x}", difference.element, difference.found, digits);
  out.wanted = fmt::format("0x{:0{}x}", difference.wanted, digits);
  out.help = "this is a fault of the dequantisation: report it with the two tensors";
  Counterexample example;
  example.tensor = one.weight.name;
  example.index = index_of(difference.element, one.weight.shape);
  example.wanted = {one.weight.name, example.index};
  example.found = example.wanted;
  example.wanted_bits = out.wanted;
  example.found_bits = fmt::format("0x{:0{}x}", difference.found, digits);
  out.counterexamples.push_back(std::move(example));
  return out;
}

void check_part(const Subject& subject, const Part& part, std::vector<Verdict>& out) {
  const auto& weights = part.source->dequantised;
  if (weights.empty()) {
    return;
  }
  const auto cases = std::ssize(weights);
  if (!part.source->checkpoint) {
    Verdict verdict = about_weights(subject, "headers", weights.front().weight.name, cases);
    verdict.outcome = Outcome::Inconclusive;
    verdict.code = Code::NoBytes;
    verdict.title = "quantised weights are known by their headers: there are no values to look at";
    verdict.help = "give the directory with the weights instead of headers";
    out.push_back(std::move(verdict));
    return;
  }
  const io::Checkpoint& checkpoint = *part.source->checkpoint;
  std::vector<std::optional<Difference>> found(weights.size());
  const Status looked =
      for_each_parallel(weights.size(), subject.budget.jobs, [&](std::size_t i) -> Status {
        found[i] = first_difference(weights[i], checkpoint);
        checkpoint.release(numbers_of(checkpoint, weights[i].stored).bytes);
        return Done{};
      });
  if (!looked) {
    Verdict verdict = about_weights(subject, "unread", weights.front().weight.name, cases);
    verdict.outcome = Outcome::Inconclusive;
    verdict.code = looked.error().code;
    verdict.title = "the quantised weights were not looked at: " + looked.error().message;
    verdict.help = looked.error().help;
    out.push_back(std::move(verdict));
    return;
  }
  std::map<std::string, Verdict> held;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (found[i]) {
      out.push_back(refuted(subject, weights[i], *found[i]));
      continue;
    }
    const std::string scheme = scheme_of(weights[i]);
    const auto [at, is_new] =
        held.try_emplace(scheme, about_weights(subject, scheme, weights[i].weight.name, 0));
    at->second.outcome = Outcome::Held;
    at->second.evidence.bytes = true;
    at->second.evidence.oracle = true;
    at->second.evidence.sampled = at->second.evidence.sampled || looks_at_parts(weights[i]);
    ++at->second.cases;
  }
  for (auto& [scheme, verdict] : held) {
    out.push_back(std::move(verdict));
  }
}

}  // namespace

std::int64_t count_dequantised(const Subject& subject) {
  std::int64_t out = 0;
  for (const Part& part : subject.parts) {
    out += std::ssize(part.source->dequantised);
  }
  return out;
}

std::vector<Verdict> check_dequantised(const Subject& subject) {
  std::vector<Verdict> out;
  for (const Part& part : subject.parts) {
    check_part(subject, part, out);
  }
  return out;
}

}  // namespace bv::claims
