// The claims over a world. Independent of the engine: every wanted place is the oracle's. Shared
// with it: names and HF sources of each parameter (the plan), move::make_whole, which moves the
// elements of right and wrong programs alike, and kinds::load and store for values.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/arith.hpp"
#include "core/base/assert.hpp"
#include "core/base/text.hpp"
#include "core/kinds/values.hpp"
#include "properties/attacks/mutants/judge.hpp"
#include "properties/attacks/mutants/tags.hpp"
#include "properties/claims/forward_compare.hpp"

namespace bv::mutants {
namespace {

std::string rank_text(const Program& program, std::size_t file) {
  return parallel::shard_name(program.files[file], program.layout);
}

std::string hex(const std::byte* bytes, std::size_t size) {
  std::string out;
  for (std::size_t i = size; i-- > 0;) {
    out += fmt::format("{:02x}", std::to_integer<unsigned>(bytes[i]));
  }
  return out;
}

/// The shard holds exactly these tags.
bool holds(const Tensor& shard, const oracle::TaggedTensor& wanted) {
  return shard.bytes.size() == wanted.tags.size() * sizeof(std::int64_t) &&
         std::memcmp(shard.bytes.data(), wanted.tags.data(), shard.bytes.size()) == 0;
}

}  // namespace

/// One judgement: runs the attack twice, with tags and with values, and asks each claim.
class Judge {
 public:
  Judge(const Reference& reference, const Attack& attack)
      : r_(reference), attack_(attack), hf_tags_(r_.tags_), hf_values_(r_.values_) {
    tags_ = run_import(r_.right_, attack.way_there, hf_tags_, poison);
    back_ = run_export(attack.way_back, tags_, r_.tag_headers_, kPoison);
    values_ = run_import(r_.right_, attack.way_there, hf_values_, poison);
  }

  std::vector<Finding> run() {
    names();
    shapes();
    elements();
    inverse();
    replicas();
    values();
    bytes();
    forward();
    return std::move(out_);
  }

 private:
  [[nodiscard]] bool known(std::string_view claim) const {
    return std::any_of(out_.begin(), out_.end(),
                       [&](const Finding& one) { return one.claim == claim; });
  }

  void add(std::string claim, Code code, std::string title, Counterexample example) {
    if (!known(claim)) {
      out_.push_back({std::move(claim), code, std::move(title), std::move(example)});
    }
  }

  static Counterexample at(std::string tensor, std::string rank,
                           std::vector<std::int64_t> index = {}) {
    Counterexample out;
    out.tensor = std::move(tensor);
    out.rank = std::move(rank);
    out.index = std::move(index);
    return out;
  }

  void names() {
    keys_that_are_missing();
    parameters_that_stay_empty();
    keys_by_use();
    for (const auto& [hf, spec] : r_.case_->headers) {
      if (!back_.tensors.contains(hf)) {
        add("names", Code::HfTensorMissing, fmt::format("{} does not come back", hf), at(hf, ""));
      }
    }
  }

  void keys_that_are_missing() {
    for (const Refusal& refusal : tags_.refusals) {
      if (refusal.missing) {
        add("names", Code::HfTensorMissing,
            fmt::format("{} is not in the checkpoint; {} is made of it", refusal.hf,
                        refusal.global_name),
            at(refusal.hf, ""));
      }
    }
  }

  void parameters_that_stay_empty() {
    for (const Move& move : r_.right_.moves) {
      const bool refused =
          std::any_of(tags_.refusals.begin(), tags_.refusals.end(),
                      [&](const Refusal& one) { return one.global_name == move.global_name; });
      if (!refused && !tags_.filled.contains({move.file, move.name})) {
        add("names", Code::MegatronParamUnfilled,
            fmt::format("nothing is written to {}", move.global_name),
            at(move.global_name, rank_text(r_.right_, move.file)));
      }
    }
  }

  void keys_by_use() {
    std::map<std::string, std::set<std::uint32_t>, std::less<>> uses;
    for (const Move& move : attack_.way_there.moves) {
      std::set<std::string> once;
      for (const std::string& hf : move.hf) {
        if (!once.insert(hf).second) {
          add("names", Code::DuplicateClaim,
              fmt::format("{} is read twice for {}", hf, move.global_name), at(hf, ""));
        }
        uses[hf].insert(move.mapping);
      }
    }
    for (const auto& [hf, spec] : r_.case_->headers) {
      const auto found = uses.find(hf);
      if (found == uses.end()) {
        add("names", Code::HfTensorUnused, fmt::format("{} is read by no rule", hf), at(hf, ""));
      } else if (found->second.size() > 1) {
        add("names", Code::DuplicateClaim, fmt::format("{} is read by two rules", hf), at(hf, ""));
      }
    }
  }

  void shapes() {
    for (const Refusal& refusal : tags_.refusals) {
      if (refusal.missing) {
        continue;
      }
      Counterexample example = at(refusal.hf, "");
      example.found.tensor = shape_text(refusal.found);
      example.wanted.tensor = shape_text(refusal.wanted);
      add("shapes", Code::ShapeMismatch,
          fmt::format("{} does not have the shape that {} requires", refusal.hf,
                      refusal.global_name),
          std::move(example));
    }
    for (const Move& move : r_.right_.moves) {
      const Tensor& found = values_.files[move.file].find(move.name)->second;
      const auto& wanted = r_.wanted_[move.file].find(move.name)->second;
      const std::string rank = rank_text(r_.right_, move.file);
      if (found.shape != wanted.shape) {
        Counterexample example = at(move.global_name, rank);
        example.found.tensor = shape_text(found.shape);
        example.wanted.tensor = shape_text(wanted.shape);
        add("shapes", Code::ShapeMismatch, fmt::format("{} has another shape", move.global_name),
            std::move(example));
      }
      const DType dtype = r_.wanted_values_.files[move.file].find(move.name)->second.dtype;
      if (found.dtype != dtype) {
        Counterexample example = at(move.global_name, rank);
        example.found.tensor = std::string(name(found.dtype));
        example.wanted.tensor = std::string(name(dtype));
        add("shapes", Code::DtypeChanged, fmt::format("{} has another dtype", move.global_name),
            std::move(example));
      }
    }
    for (const auto& [hf, tensor] : back_.tensors) {
      const auto header = r_.case_->headers.find(hf);
      if (header != r_.case_->headers.end() && header->second.shape != tensor.shape) {
        Counterexample example = at(hf, "");
        example.found.tensor = shape_text(tensor.shape);
        example.wanted.tensor = shape_text(header->second.shape);
        add("shapes", Code::ShapeMismatch, fmt::format("{} comes back with another shape", hf),
            std::move(example));
      }
    }
  }

  /// Coverage and placement: each element of each shard.
  void elements() {
    for (const Move& move : r_.right_.moves) {
      const Tensor& found = tags_.files[move.file].find(move.name)->second;
      const auto& wanted = r_.wanted_[move.file].find(move.name)->second;
      if (found.shape != wanted.shape || !tags_.filled.contains({move.file, move.name}) ||
          holds(found, wanted)) {
        continue;
      }
      for (std::size_t i = 0; i < wanted.tags.size(); ++i) {
        const std::int64_t tag = tag_at(found, i);
        if (tag == wanted.tags[i] || known(tag == kUnwritten ? "coverage" : "placement")) {
          continue;
        }
        Counterexample example = at(move.global_name, rank_text(r_.right_, move.file),
                                    index_of(static_cast<std::int64_t>(i), found.shape));
        example.wanted = r_.element_of(wanted.tags[i]);
        example.found = r_.element_of(tag);
        const bool gap = tag == kUnwritten;
        add(gap ? "coverage" : "placement", gap ? Code::Gap : Code::WrongPlacement,
            gap ? "an element is written by nothing" : "an element is in the wrong place",
            std::move(example));
      }
    }
  }

  void inverse() {
    for (const auto& [hf, tensor] : back_.tensors) {
      const auto wanted = r_.tags_.find(hf);
      if (wanted == r_.tags_.end() || tensor.shape != wanted->second.shape ||
          tensor.bytes.size() != wanted->second.bytes.size() ||
          tensor.bytes == wanted->second.bytes) {
        continue;
      }
      for (std::size_t i = 0; i < tensor.bytes.size() / sizeof(std::int64_t); ++i) {
        const std::int64_t tag = tag_at(tensor, i);
        if (tag == tag_at(wanted->second, i)) {
          continue;
        }
        Counterexample example = at(hf, "", index_of(static_cast<std::int64_t>(i), tensor.shape));
        example.wanted = {hf, example.index};
        example.found = r_.element_of(tag);
        add("inverse", Code::InverseNotIdentity, "an element does not come back",
            std::move(example));
        break;
      }
    }
  }

  /// Owners of one content must hold the same bytes.
  void replicas() {
    for (std::size_t i = 0; i < r_.right_.moves.size(); ++i) {
      if (r_.first_owner_[i] == i) {
        continue;
      }
      const Move& move = r_.right_.moves[i];
      const Move& other = r_.right_.moves[r_.first_owner_[i]];
      const Tensor& a = values_.files[other.file].find(other.name)->second;
      const Tensor& b = values_.files[move.file].find(move.name)->second;
      if (a.shape != b.shape || a.bytes == b.bytes) {
        continue;
      }
      const auto differs =
          std::mismatch(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end());
      const std::int64_t element = (differs.first - a.bytes.begin()) / bytes_of_type(a.dtype);
      Counterexample example =
          at(move.global_name, rank_text(r_.right_, move.file), index_of(element, b.shape));
      add("replicas", Code::ReplicasDiffer,
          fmt::format("{} differs between {} and {}", move.global_name,
                      rank_text(r_.right_, other.file), rank_text(r_.right_, move.file)),
          std::move(example));
    }
  }

  static std::int64_t bytes_of_type(DType dtype) { return bv::bytes(dtype); }

  /// Elements in the right place whose value is not the one that the rule's arithmetic gives.
  void values() {
    for (const Move& move : r_.right_.moves) {
      const Tensor& found = values_.files[move.file].find(move.name)->second;
      const Tensor& wanted = r_.wanted_values_.files[move.file].find(move.name)->second;
      const Tensor& tags = tags_.files[move.file].find(move.name)->second;
      const auto& right_tags = r_.wanted_[move.file].find(move.name)->second;
      if (found.shape != wanted.shape || !tags_.filled.contains({move.file, move.name}) ||
          tags.shape != right_tags.shape || found == wanted) {
        continue;
      }
      const auto fs = static_cast<std::size_t>(bv::bytes(found.dtype));
      const auto ws = static_cast<std::size_t>(bv::bytes(wanted.dtype));
      for (std::size_t i = 0; i < right_tags.tags.size(); ++i) {
        if (tag_at(tags, i) != right_tags.tags[i]) {
          continue;
        }
        const std::byte* a = found.bytes.data() + i * fs;
        const std::byte* b = wanted.bytes.data() + i * ws;
        if (kinds::load(a, found.dtype) == kinds::load(b, wanted.dtype)) {
          continue;
        }
        Counterexample example = at(move.global_name, rank_text(r_.right_, move.file),
                                    index_of(static_cast<std::int64_t>(i), found.shape));
        example.wanted = r_.element_of(right_tags.tags[i]);
        example.found = example.wanted;
        example.found_bits = hex(a, fs);
        example.wanted_bits = hex(b, ws);
        add("values", Code::ValueRuleInexact, "an element has another value", std::move(example));
        return;
      }
    }
  }

  /// The bit-exact round trip, and the checkpoint itself untouched.
  void bytes() {
    for (const auto& [hf, tensor] : hf_values_) {
      if (tensor.bytes != r_.values_.find(hf)->second.bytes) {
        compare_bytes(hf, tensor, "the checkpoint was changed while it was read");
      }
    }
    const Export back = run_export(attack_.way_back, values_, r_.case_->headers, kPoison);
    for (const auto& [hf, tensor] : back.tensors) {
      const auto wanted = r_.values_.find(hf);
      if (wanted != r_.values_.end() && tensor.shape == wanted->second.shape &&
          tensor.bytes != wanted->second.bytes) {
        compare_bytes(hf, tensor, "a byte does not come back");
      }
    }
  }

  void compare_bytes(const std::string& hf, const Tensor& found, std::string title) {
    const Tensor& wanted = r_.values_.find(hf)->second;
    const auto differs = std::mismatch(found.bytes.begin(), found.bytes.end(), wanted.bytes.begin(),
                                       wanted.bytes.end());
    const auto size = static_cast<std::size_t>(bv::bytes(wanted.dtype));
    const auto element = static_cast<std::size_t>(differs.first - found.bytes.begin()) / size;
    Counterexample example = at(hf, "", index_of(static_cast<std::int64_t>(element), wanted.shape));
    example.found_bits = hex(found.bytes.data() + element * size, size);
    example.wanted_bits = hex(wanted.bytes.data() + element * size, size);
    add("bytes", Code::BytesDiffer, std::move(title), std::move(example));
  }

  void forward() {
    if (!r_.forward_) {
      return;
    }
    const Forward seen = r_.forward_(r_.right_.files, values_);
    if (seen.refused) {
      // The right shards were computed with these inputs: only a shard can stop the model now. A
      // claim without an answer must not pass for one that holds.
      BV_ASSERT(claims::blames_shards(seen.refused->code));
      add("forward", seen.refused->code, "the model cannot run: " + seen.refused->message, {});
    } else if (!seen.where.empty()) {
      add("forward", Code::ForwardDiffers,
          fmt::format("{} differs by {:.3g}", seen.where, seen.difference), at(seen.where, ""));
    }
  }

  const Reference& r_;
  const Attack& attack_;
  Tensors hf_tags_;
  Tensors hf_values_;
  Image tags_;
  Export back_;
  Image values_;
  std::vector<Finding> out_;
};

std::vector<Finding> Reference::judge(const Attack& attack) const {
  if (attack.refused) {
    Finding finding;
    const Code code = attack.refused->code;
    finding.claim = code == Code::RulesInvalid ? "proof" : "shapes";
    finding.code = code;
    finding.title = attack.refused->message;
    return {std::move(finding)};
  }
  return Judge(*this, attack).run();
}

}  // namespace bv::mutants
