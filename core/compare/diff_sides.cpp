// What is compared with what: names of two HF checkpoints, or the parameters of a plan with the
// tensors of its shards.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/global_shard.hpp"
#include "core/compare/diff.hpp"
#include "core/compare/rule_faults.hpp"

namespace bv::compare {
namespace {

View view_of(const checkpoint::SourceTensor& tensor) {
  View view;
  view.spec = *tensor.spec;
  view.sources = {tensor};
  const std::int64_t count = element_count(view.spec.shape).value_or(0);
  layout::Box box;
  const bool small = bits(view.spec.dtype) % 8 != 0;
  const std::int64_t elements = small ? count * bits(view.spec.dtype) / 8 : count;
  if (elements > 0) {
    box.axes = {{elements, 1, 1}};
    layout::normalise(box);
    view.boxes = {box};
  }
  return view;
}

/// The ranks of a tensor-parallel group hold different rows.
bool is_cut(const layout::Rule& line) {
  const auto& grid = line.targets[0].grid;
  return line.cut.has_value() ||
         std::any_of(grid.begin(), grid.end(), [](const layout::GridAxis& axis) {
           return axis.axis == "t" && !axis.replica;
         });
}

/// The tensor of that name, if the store has it.
std::optional<checkpoint::SourceTensor> find_in(const io::TensorStore& store,
                                                std::string_view name) {
  const TensorSpec* const there = store.find(name);
  return there == nullptr ? std::nullopt : std::optional(checkpoint::SourceTensor{&store, there});
}

/// The tensors of a store that nothing wants, in byte order.
void add_strays(const io::TensorStore& store, const std::string& place,
                const std::function<bool(std::string_view)>& is_wanted, Comparison& out) {
  store.for_each([&](const TensorSpec& spec) {
    if (!is_wanted(spec.name)) {
      out.strays.push_back({spec.name, place, {&store, &spec}});
    }
  });
}

/// What makes two targets hold the same bytes: a copy of an earlier one adds nothing to the row
/// table.
using SameBytes = std::tuple<std::uint32_t, std::int64_t, std::int64_t>;

SameBytes same_bytes(const plan::Plan& plan, const plan::Target& target) {
  const model::Mapping& mapping = plan.model().mappings[target.mapping];
  return {target.mapping, is_cut(plan.bound(mapping).rule()) ? target.t : 0, target.expert};
}

/// How many times a found tensor is smaller than the whole one; nullopt when it is no even cut.
std::optional<std::int64_t> times_smaller(const Shape& whole, const Shape& found) {
  if (whole.size() != found.size()) {
    return std::nullopt;
  }
  std::optional<std::int64_t> times;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if (whole[i] == found[i]) {
      continue;
    }
    if (times || found[i] <= 0 || whole[i] % found[i] != 0) {
      return std::nullopt;
    }
    times = whole[i] / found[i];
  }
  return times.value_or(1);
}

/// The group size that every cut parameter of the shards has, expert ones or the others; nullopt
/// when they do not agree or there is none.
std::optional<std::int64_t> size_shown(const plan::Plan& whole, const Shards& shards,
                                       bool experts) {
  std::optional<std::int64_t> size;
  for (const plan::ShardFile& file : whole.files()) {
    const auto shard = shards.find(file.key);
    for (const plan::Target& target : file.targets) {
      const model::Mapping& mapping = whole.model().mappings[target.mapping];
      if (shard == shards.end() || mapping.rule->vocabulary || mapping.rule->expert != experts ||
          !is_cut(whole.bound(mapping).rule())) {
        continue;
      }
      const TensorSpec* const found = shard->second->find(target.name);
      if (found == nullptr) {
        continue;
      }
      const auto times = times_smaller(whole.bound(mapping).target_shapes()[0], found->shape);
      if (!times || (size && *size != *times)) {
        return std::nullopt;
      }
      size = times;
    }
  }
  return size;
}

}  // namespace

std::optional<DType> own_dtype(const Comparison& comparison) {
  std::map<DType, std::int64_t> counts;
  std::int64_t all = 0;
  for (const Subject& subject : comparison.subjects) {
    if (subject.found && kinds::is_computable(subject.found->spec->dtype)) {
      ++counts[subject.found->spec->dtype];
      ++all;
    }
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most != counts.end() && 2 * most->second > all ? std::optional(most->first) : std::nullopt;
}

void share_tensors(const io::TensorStore& store, const plan::Plan& plan, Comparison& comparison) {
  const checkpoint::StoredNames names(plan);
  std::map<const TensorSpec*, DType> widest;
  std::vector<std::vector<checkpoint::GlobalPiece>> pieces;
  for (const Subject& subject : comparison.subjects) {
    pieces.push_back(checkpoint::find_global(store, names.of(subject.global)));
    for (const checkpoint::GlobalPiece& piece : pieces.back()) {
      DType& wide = widest.emplace(piece.tensor, subject.spec.dtype).first->second;
      wide = plan::widest_of(wide, subject.spec.dtype);
    }
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    Subject& subject = comparison.subjects[i];
    for (const checkpoint::GlobalPiece& piece : pieces[i]) {
      subject.shared_dtype = plan::widest_of(subject.shared_dtype.value_or(subject.spec.dtype),
                                             widest.find(piece.tensor)->second);
    }
  }
}

Comparison compare_hf(const io::TensorStore& a, const io::TensorStore& b) {
  return compare_hf(a, a.headers(), b, b.headers());
}

Comparison compare_hf(const io::TensorStore& a, const Headers& of_a, const io::TensorStore& b,
                      const Headers& of_b) {
  Comparison out;
  for (const auto& [name, of_header] : of_a) {
    const TensorSpec* const spec = a.find(name);
    Subject& subject = out.subjects.emplace_back();
    subject.tensor = name;
    subject.spec = *spec;
    subject.wanted = [tensor = checkpoint::SourceTensor{&a, spec}] { return view_of(tensor); };
    if (of_b.contains(name)) {
      subject.found = find_in(b, name);
    }
  }
  for (const auto& [name, of_header] : of_b) {
    if (!of_a.contains(name)) {
      out.strays.push_back({name, "", {&b, b.find(name)}});
    }
  }
  return out;
}

std::vector<std::string> compare_copies(const io::TensorStore& a, const Copies& of_a,
                                        const io::TensorStore& b, const Copies& of_b,
                                        Comparison& comparison) {
  std::vector<std::string> out;
  for (const auto& [copy, original] : of_a) {
    for (Subject& subject : comparison.subjects) {
      if (subject.tensor != copy || subject.found || b.find(original) == nullptr) {
        continue;
      }
      subject.found = find_in(b, original);
      out.push_back(fmt::format("{} is stored in A alone, and compared with {} of B", escaped(copy),
                                escaped(original)));
    }
  }
  for (const auto& [copy, original] : of_b) {
    const TensorSpec* const wanted = a.find(original);
    const auto stray = std::ranges::find(comparison.strays, copy, &Stray::tensor);
    if (wanted == nullptr || stray == comparison.strays.end()) {
      continue;
    }
    Subject& subject = comparison.subjects.emplace_back();
    subject.tensor = copy;
    subject.hf = {original};
    subject.repeats = true;
    subject.spec = *wanted;
    subject.wanted = [tensor = checkpoint::SourceTensor{&a, wanted}] { return view_of(tensor); };
    subject.found = stray->found;
    comparison.strays.erase(stray);
    out.push_back(fmt::format("{} is stored in B alone, and compared with {} of A", escaped(copy),
                              escaped(original)));
  }
  return out;
}

std::optional<std::int64_t> padded_shard_rows(const model::Model& model,
                                              const parallel::Layout& layout,
                                              const Shards& shards) {
  const std::int64_t rows = model.geometry.vocabulary();
  if (rows % layout.tp == 0) {
    return std::nullopt;
  }
  bool there = false;
  for (const model::Mapping& mapping : model.mappings) {
    if (!mapping.rule->vocabulary) {
      continue;
    }
    const std::string name = model.megatron_name(mapping);
    for (const auto& [rank, shard] : shards) {
      const TensorSpec* const found = shard->find(name);
      there = there || found != nullptr;
      const bool stored = found != nullptr && !found->shape.empty();
      const auto padded = stored ? checked_mul(found->shape[0], layout.tp) : std::nullopt;
      if (padded && *padded >= rows) {
        return found->shape[0];
      }
    }
  }
  // Where no rank holds one, names are wrong and not the layout: the fewest rows of a legal one.
  return there ? std::nullopt : std::optional((rows + layout.tp - 1) / layout.tp);
}

Status check_all_ranks(const model::Model& model, const kinds::Catalogue& kinds,
                       const parallel::Layout& layout, const Shards& shards) {
  parallel::Layout one = layout;
  one.tp = one.etp = 1;
  one.vocab_divisor.reset();
  BV_TRY(whole, plan::Plan::make(model, kinds, one));
  for (const auto& [axis, stated, experts] :
       {std::tuple("tp", layout.tp, false), std::tuple("etp", layout.etp, true)}) {
    const auto shown = size_shown(whole, shards, experts);
    if (shown && *shown > stated) {
      return fail(Code::CacheIncomplete,
                  fmt::format("the shards are those of {} {}, and {} there", axis, *shown,
                              stated == 1
                                  ? fmt::format("{}0 alone is", axis)
                                  : fmt::format("only {}0 to {}{} are", axis, axis, stated - 1)))
          .fact(fmt::format("every {} parameter is a {} of the whole one",
                            experts ? "expert" : "cut",
                            *shown == 2 ? "half" : fmt::format("1/{}", *shown)))
          .pair(fmt::format("{} {}", axis, stated), fmt::format("{} {}", axis, *shown))
          .advise(
              "copy the missing shards beside the others, or move away a file of another layout");
    }
  }
  return Done{};
}

Comparison compare_megatron(const checkpoint::HfModel& a, const plan::Plan& plan, const Shards& b,
                            const plan::DtypePolicy& dtype) {
  Comparison out;
  std::set<SameBytes> seen;
  for (const plan::ShardFile& file : plan.files()) {
    const std::string place = parallel::shard_name(file.key, plan.layout());
    const auto shard = b.find(file.key);
    std::set<std::string_view> wanted;
    for (const plan::Target& target : file.targets) {
      const model::Mapping& mapping = plan.model().mappings[target.mapping];
      std::vector<checkpoint::SourceTensor> sources;
      std::vector<DType> dtypes;
      for (const std::string& hf : mapping.hf) {
        sources.push_back({&*a.checkpoint, a.checkpoint->find(hf)});
        dtypes.push_back(sources.back().spec->dtype);
      }
      Subject subject;
      subject.tensor = target.name;
      subject.global = target.global_name;
      subject.place = place;
      subject.hf = mapping.hf;
      subject.vocabulary = mapping.rule->vocabulary;
      subject.repeats = !seen.insert(same_bytes(plan, target)).second;
      if (shard != b.end()) {
        subject.found = find_in(*shard->second, target.name);
      }
      const DType stored_as = plan::target_dtype(*mapping.rule, dtypes, dtype);
      subject.spec = {target.name, stored_as, plan.bound(mapping).target_shapes()[0]};
      subject.wanted = [&plan, &target, sources, stored_as] {
        return wanted_view(plan, target, sources, stored_as);
      };
      subject.candidates = [&plan, &target, sources, stored_as](const TensorSpec& found) {
        return rule_faults(plan, target, sources, stored_as, found);
      };
      wanted.insert(target.name);
      out.subjects.push_back(std::move(subject));
    }
    if (shard != b.end()) {
      add_strays(
          *shard->second, place, [&wanted](std::string_view name) { return wanted.contains(name); },
          out);
    }
  }
  return out;
}

Result<parallel::Layout> layout_of_shards(const std::vector<std::string>& names,
                                          const parallel::Layout& flags) {
  parallel::Layout out = flags;
  out.tp = out.pp = out.ep = out.etp = out.vpp = 1;
  for (const std::string& name : names) {
    const auto key = parallel::shard_from_name(name);
    if (!key) {
      return fail(Code::BadValue,
                  fmt::format("{} is not the name of a Megatron shard", escaped(name)))
          .pair(escaped(name), "pp0_tp1_ep0_etp0.safetensors")
          .advise("name each file after its ranks");
    }
    out.tp = std::max(out.tp, key->tp + 1);
    out.pp = std::max(out.pp, key->pp + 1);
    out.ep = std::max(out.ep, key->ep + 1);
    out.etp = std::max(out.etp, key->etp + 1);
    out.vpp = std::max(out.vpp, key->vp + 1);
  }
  if (!flags.pipeline_layout.empty()) {
    out.vpp = flags.vpp;  // the string decides the virtual stages
  }
  BV_CHECK(parallel::check_sizes(out));
  std::set<std::string> wanted;
  for (const parallel::ShardKey& key : parallel::shard_keys(out)) {
    wanted.insert(parallel::shard_name(key, out));
  }
  for (const std::string& name : names) {
    wanted.erase(name);
  }
  if (!wanted.empty()) {
    return fail(Code::CacheIncomplete,
                fmt::format("the shard names state {}, but {} of its files {} missing",
                            parallel::layout_id(out), wanted.size(),
                            wanted.size() == 1 ? "is" : "are"))
        .fact("missing: " + *wanted.begin() + ".safetensors")
        .pair(counted(names.size(), "file"), counted(names.size() + wanted.size(), "file"))
        .advise("copy the missing shards beside the others");
  }
  return out;
}

}  // namespace bv::compare
