#include "properties/mutants/judge.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/kinds/values.hpp"

namespace bv::mutants {
namespace {

constexpr std::int64_t kTensorTag = std::int64_t{1} << 40;
constexpr std::byte kPoison{0xA5};
constexpr std::int64_t kUnwritten = static_cast<std::int64_t>(0xA5A5A5A5A5A5A5A5ULL);
constexpr double kForwardSeen = 1e-6;

void poison(Tensor& tensor, const std::string&) {
  std::fill(tensor.bytes.begin(), tensor.bytes.end(), kPoison);
}

std::int64_t tag_at(const Tensor& tensor, std::size_t i) {
  std::int64_t out = 0;
  std::memcpy(&out, tensor.bytes.data() + i * sizeof out, sizeof out);
  return out;
}

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

/// Values that are exact under -1 and +1 in bf16 and differ between neighbours; no tensor is
/// constant.
Tensors exact_values(const Headers& headers) {
  Tensors out;
  std::uint64_t state = 0x9E3779B97F4A7C15ULL;
  for (const auto& [name, spec] : headers) {
    Tensor tensor{spec.dtype, spec.shape, {}};
    const auto count = static_cast<std::size_t>(element_count(spec.shape).value());
    const auto size = static_cast<std::size_t>(bytes(spec.dtype));
    tensor.bytes.resize(count * size);
    for (std::size_t i = 0; i < count; ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      const auto draw = static_cast<std::int64_t>(state >> 40U);
      double value = static_cast<double>(draw % 127 - 63) / 128.0;
      if (spec.shape.size() == 1) {
        value = 1.0 + static_cast<double>(draw % 61 + 1) / 128.0;
        if (spec.dtype == DType::F32) {
          value += static_cast<double>(draw % 31 + 1) / 65536.0;  // bf16 cannot hold it
        }
      }
      kinds::store(value, tensor.bytes.data() + i * size, spec.dtype);
    }
    out.emplace(name, std::move(tensor));
  }
  return out;
}

}  // namespace

Result<Reference> Reference::make(const Library& library, std::shared_ptr<const Case> one,
                                  const parallel::Layout& layout, const oracle::Entry& entry) {
  Reference out;
  out.case_ = std::move(one);
  BV_TRY(right, compile(out.case_->model, library.kinds, layout));
  out.right_ = std::move(right);
  for (const auto& [name, spec] : out.case_->headers) {
    TensorSpec tags{name, DType::I64, spec.shape};
    Tensor tensor{DType::I64, spec.shape, {}};
    const auto count = static_cast<std::size_t>(element_count(spec.shape).value());
    tensor.bytes.resize(count * sizeof(std::int64_t));
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t tag = static_cast<std::int64_t>(out.numbers_.size()) * kTensorTag +
                               static_cast<std::int64_t>(i) + 1;
      std::memcpy(tensor.bytes.data() + i * sizeof tag, &tag, sizeof tag);
    }
    out.numbers_.push_back(name);
    out.tags_.emplace(name, std::move(tensor));
    out.tag_headers_.emplace(name, std::move(tags));
  }
  BV_CHECK(out.ask_oracle(entry));
  out.values_ = exact_values(out.case_->headers);
  Tensors hf = out.values_;
  out.wanted_values_ = run_import(out.right_, out.right_, hf, poison);
  return out;
}

namespace {

/// Numbers of layers as "#": what a module computes with does not depend on which layer it is, so
/// that one answer serves all of them.
std::string without_layer(std::string_view name) {
  std::string out;
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    const std::string_view word = name.substr(at, end - at);
    const bool numbered = out.ends_with("layers.") || out.ends_with("blocks.");
    const bool number = !word.empty() && word.find_first_not_of("0123456789") == word.npos;
    out += numbered && number ? "#" : word;
    out += end < name.size() ? "." : "";
    at = end + 1;
  }
  return out;
}

/// Everything of a question that its answer depends on within one model.
std::string key_of(const oracle::Question& question) {
  std::string out = fmt::format("{} {} {} {} {} {}", without_layer(question.parameter),
                                question.shard_size, question.shard_rank, question.expert,
                                question.padded_vocab, question.in_out_stack);
  for (std::size_t i = 0; i < question.hf_names.size(); ++i) {
    out += " " + without_layer(question.hf_names[i]) + shape_text(question.hf[i].shape);
  }
  return out;
}

}  // namespace

Status Reference::ask_oracle(const oracle::Entry& entry) {
  wanted_.resize(right_.files.size());
  const model::Model& model = case_->model;
  std::map<std::string, oracle::TaggedTensor> answers;
  for (const Move& move : right_.moves) {
    const model::Rule& rule = *model.mappings[move.mapping].rule;
    oracle::Question question;
    question.parameter = move.global_name;
    question.hf_names = move.hf;
    std::vector<std::int64_t> bases;
    for (const std::string& hf : move.hf) {
      const auto number = std::lower_bound(numbers_.begin(), numbers_.end(), hf) - numbers_.begin();
      question.hf.push_back({tag_headers_.find(hf)->second.shape, {}});
      bases.push_back(number * kTensorTag);
    }
    question.shard_size = rule.expert ? right_.layout.etp : right_.layout.tp;
    question.shard_rank = move.t;
    question.expert = move.expert;
    question.padded_vocab =
        rule.vocabulary ? exec::padded_rows(move.hf_shapes[0][0], right_.layout) : 0;
    question.in_out_stack = rule.orientation == "in_out";
    const auto [answer, fresh] = answers.try_emplace(key_of(question));
    if (fresh) {
      question.numbers = model.geometry.symbols;
      question.model_type = case_->model_type;
      for (std::size_t source = 0; source < question.hf.size(); ++source) {
        oracle::TaggedTensor& tagged = question.hf[source];
        tagged.tags.resize(static_cast<std::size_t>(element_count(tagged.shape).value()));
        std::iota(tagged.tags.begin(), tagged.tags.end(),
                  static_cast<std::int64_t>(source) * kTensorTag);
      }
      auto wanted = entry.wanted_shard(question);
      if (!wanted) {
        return fail(Code::NoTargetLayout,
                    fmt::format("no independent statement for {}: {}", move.global_name,
                                entry.why_unanswered(question)))
            .advise("add the parameter to oracles/target_layout.cpp");
      }
      answer->second = std::move(*wanted);
    }
    oracle::TaggedTensor wanted = answer->second;
    for (std::int64_t& tag : wanted.tags) {
      tag = tag < 0 ? 0 : bases[static_cast<std::size_t>(tag / kTensorTag)] + tag % kTensorTag + 1;
    }
    wanted_[move.file].emplace(move.name, std::move(wanted));
  }
  return Done{};
}

ElementRef Reference::element_of(std::int64_t tag) const {
  if (tag == 0) {
    return {"zero", {}};
  }
  const std::int64_t at = tag - 1;
  const std::int64_t number = at / kTensorTag;
  if (tag == kUnwritten || at < 0 || number >= static_cast<std::int64_t>(numbers_.size())) {
    return {"nothing", {}};
  }
  const std::string& name = numbers_[static_cast<std::size_t>(number)];
  return {name, index_of(at % kTensorTag, tag_headers_.find(name)->second.shape)};
}

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
  void add(std::string claim, Code code, std::string title, Counterexample example) {
    const bool known = std::any_of(out_.begin(), out_.end(),
                                   [&](const Finding& one) { return one.claim == claim; });
    if (!known) {
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
    for (const auto& [hf, spec] : r_.case_->headers) {
      const auto found = uses.find(hf);
      if (found == uses.end()) {
        add("names", Code::HfTensorUnused, fmt::format("{} is read by no rule", hf), at(hf, ""));
      } else if (found->second.size() > 1) {
        add("names", Code::DuplicateClaim, fmt::format("{} is read by two rules", hf), at(hf, ""));
      }
    }
    for (const auto& [hf, spec] : r_.case_->headers) {
      if (!back_.tensors.contains(hf)) {
        add("names", Code::HfTensorMissing, fmt::format("{} does not come back", hf), at(hf, ""));
      }
    }
  }

  void shapes() {
    for (const Refusal& refusal : tags_.refusals) {
      Counterexample example = at(refusal.hf, "");
      example.found.tensor = shape_text(refusal.found);
      example.wanted.tensor = shape_text(refusal.wanted);
      add("shapes", Code::ShapeMismatch,
          fmt::format("{} has not the shape that {} is made of", refusal.hf, refusal.global_name),
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
      if (found.shape != wanted.shape || !tags_.filled.contains({move.file, move.name})) {
        continue;
      }
      for (std::size_t i = 0; i < wanted.tags.size(); ++i) {
        const std::int64_t tag = tag_at(found, i);
        if (tag == wanted.tags[i]) {
          continue;
        }
        Counterexample example = at(move.global_name, rank_text(r_.right_, move.file),
                                    index_of(static_cast<std::int64_t>(i), found.shape));
        example.wanted = r_.element_of(wanted.tags[i]);
        example.found = r_.element_of(tag);
        const bool gap = tag == kUnwritten;
        add(gap ? "coverage" : "placement", gap ? Code::Gap : Code::WrongPlacement,
            gap ? "an element is written by nothing" : "an element stands in the wrong place",
            std::move(example));
      }
    }
  }

  void inverse() {
    for (const auto& [hf, tensor] : back_.tensors) {
      const auto wanted = r_.tags_.find(hf);
      if (wanted == r_.tags_.end() || tensor.shape != wanted->second.shape ||
          tensor.bytes.size() != wanted->second.bytes.size()) {
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
    std::map<std::tuple<std::string, std::int64_t, std::vector<std::int64_t>>, const Move*> first;
    for (const Move& move : r_.right_.moves) {
      const auto& wanted = r_.wanted_[move.file].find(move.name)->second;
      const std::tuple key{move.hf.front(), move.expert, wanted.tags};
      const auto [there, fresh] = first.emplace(key, &move);
      if (fresh) {
        continue;
      }
      const Move& other = *there->second;
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
          tags.shape != right_tags.shape) {
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
    if (!seen.refused.empty()) {
      add("forward", Code::OracleDisagrees, "the module cannot run: " + seen.refused, {});
    } else if (!(seen.difference < kForwardSeen)) {
      add("forward", Code::OracleDisagrees,
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

namespace {

/// What a move does, as a set of copied elements: two moves that do the same compare equal.
bool same_effect(const Move& a, const Move& b) {
  if (a.name != b.name || a.file != b.file || a.shape != b.shape || a.hf_shapes != b.hf_shapes ||
      a.hf != b.hf || !(a.arithmetic == b.arithmetic) || a.last_expert_wins != b.last_expert_wins ||
      a.squeezes != b.squeezes || a.stale != b.stale) {
    return false;
  }
  const auto elements = static_cast<std::size_t>(element_count(a.shape).value());
  const auto sources = [&](const Move& move) {
    std::vector<std::pair<int, std::int64_t>> out(elements, {-2, 0});
    for (const layout::Box& box : move.boxes) {
      std::vector<std::int64_t> at(box.axes.size(), 0);
      for (std::int64_t n = 0; n < box.elements(); ++n) {
        std::int64_t source = box.source_offset;
        std::int64_t target = box.target_offset;
        for (std::size_t i = 0; i < at.size(); ++i) {
          source += at[i] * box.axes[i].source_stride;
          target += at[i] * box.axes[i].target_stride;
        }
        out[static_cast<std::size_t>(target)] = {box.source, box.source < 0 ? 0 : source};
        for (std::size_t i = at.size(); i-- > 0 && ++at[i] == box.axes[i].extent;) {
          at[i] = 0;
        }
      }
    }
    return out;
  };
  return sources(a) == sources(b);
}

bool same_program(const Program& a, const Program& b) {
  return a.moves.size() == b.moves.size() &&
         std::equal(a.moves.begin(), a.moves.end(), b.moves.begin(), same_effect);
}

}  // namespace

bool Reference::is_equivalent(const Attack& attack, std::string& why) const {
  if (attack.refused) {
    return false;
  }
  // A change that computes nothing on these types (a cast to the type that is there) has the same
  // images.
  Tensors hf = values_;
  const Image image = run_import(right_, attack.way_there, hf, poison);
  const bool same_images =
      image.files == wanted_values_.files && hf == values_ && image.loud.empty();
  Tensors hf_tags = tags_;
  const Image tagged = run_import(right_, attack.way_there, hf_tags, poison);
  const Export back = run_export(attack.way_back, tagged, tag_headers_, kPoison);
  const Export back_values = run_export(attack.way_back, image, case_->headers, kPoison);
  if (!same_images || back.tensors != tags_ || back_values.tensors != values_) {
    return false;
  }
  why = same_program(attack.way_there, right_)
            ? "every move copies the same elements to the same places on this layout"
            : "every shard and every exported tensor holds the same bits";
  return true;
}

}  // namespace bv::mutants
