// Rules that read one index of dimension 0 of a tensor each: together they move it.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/foreign/applier.hpp"
#include "core/foreign/parameter.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

/// Of a vector the slices are parameters of one number.
Shape shape_of_slice(const Shape& whole) {
  return whole.size() > 1 ? Shape(whole.begin() + 1, whole.end()) : Shape{1};
}

Error not_moved(const ForeignRule& rule, const std::string& hf, const char* why) {
  return fail(Code::RuleKindUnknown,
              fmt::format("{} reads a slice of {}, {}", named(rule), shown(hf), why))
      .at(rule.source)
      .pair(fmt::format("slice {} of {}", *rule.slice, shown(hf)),
            "slices that are cut alike, for parameters of one layer")
      .advise(
          "hold what the real bridge makes of this checkpoint against it: "
          "bridge-verify check --model DIR --megatron CKPT_DIR");
}

/// One tensor is moved to one layer, which stands on one pipeline stage.
Error for_several_layers(const WantedParameter& one, const WantedParameter& other,
                         const ForeignRule& rule, const std::string& hf) {
  return fail(Code::RuleKindUnknown,
              fmt::format("{} reads a slice of {}, and others of it are for other layers",
                          named(rule), shown(hf)))
      .at(rule.source)
      .pair(shown(other.name) + " and " + shown(one.name), "parameters of one layer")
      .advise(
          "store one tensor a layer (split " + shown(hf) +
          " along dimension 0) and read each by its name, or hold what the real bridge makes of "
          "this checkpoint against it: bridge-verify check --model DIR --megatron CKPT_DIR");
}

/// "a.alpha_pre", "a.alpha_post" -> "a.{alpha_pre|alpha_post}": components that differ, by slice.
/// nullopt when their numbers do, or one has no component of its own.
std::optional<std::string> template_of(const std::vector<std::string>& names) {
  std::size_t begin = names.front().size();
  std::size_t end = names.front().size();  // length of the end that all have
  for (const std::string& name : names) {
    const auto differs =
        std::mismatch(name.begin(), name.end(), names.front().begin(), names.front().end());
    begin = std::min(begin, static_cast<std::size_t>(differs.first - name.begin()));
    const auto from_end =
        std::mismatch(name.rbegin(), name.rend(), names.front().rbegin(), names.front().rend());
    end = std::min(end, static_cast<std::size_t>(from_end.first - name.rbegin()));
  }
  const std::size_t dot = names.front().substr(0, begin).rfind('.');
  begin = dot == std::string::npos ? 0 : dot + 1;
  const std::string tail = names.front().substr(names.front().size() - end);
  end = tail.find('.') == std::string::npos ? 0 : tail.size() - tail.find('.');
  std::string parts;
  std::size_t shortest = names.front().size();
  for (const std::string& name : names) {
    shortest = std::min(shortest, name.size());
  }
  if (begin + end >= shortest) {
    return std::nullopt;
  }
  for (const std::string& name : names) {
    const std::string part = name.substr(begin, name.size() - begin - end);
    if (part.find_first_of("{|}") != std::string::npos) {
      return std::nullopt;
    }
    parts += (parts.empty() ? "" : "|") + part;
  }
  return fmt::format("{}{{{}}}{}", names.front().substr(0, begin), parts,
                     names.front().substr(names.front().size() - end));
}

bool cut_alike(const family::Rule& one, const family::Rule& other) {
  return one.kind == other.kind && one.axes == other.axes && one.rest == other.rest &&
         one.value == other.value && one.keep_float32 == other.keep_float32;
}

}  // namespace

void Applier::slice_of(const WantedParameter& parameter, const ForeignRule& rule,
                       const std::string& hf) {
  const Shape& shape = headers_.find(hf)->second.shape;
  const std::int64_t count = shape.empty() ? 0 : shape.front();
  if (*rule.slice >= count) {
    return leave_out(parameter, rule,
                     fail(Code::ShapeMismatch, fmt::format("{} reads a slice that {} does not have",
                                                           named(rule), shown(hf)))
                         .at(rule.source)
                         .pair(fmt::format("slice {} of {}", *rule.slice, shape_text(shape)),
                               fmt::format("a slice below {}", count))
                         .advise("correct the slice, or the HF name"),
                     {hf});
  }
  if (parameter.unfit != nullptr) {
    return leave_out(parameter, rule, *parameter.unfit, {hf});
  }
  const auto [first, fresh] =
      slices_[hf].try_emplace(*rule.slice, SliceReader{&parameter, &rule, now_});
  const WantedParameter* const before = first->second.parameter;
  if (!fresh && before->name != parameter.name) {
    return leave_out(
        parameter, rule,
        fail(Code::DuplicateClaim,
             fmt::format("slice {} of {} makes two Megatron parameters", *rule.slice, shown(hf)))
            .at(rule.source)
            .pair(shown(before->name) + " and " + shown(parameter.name), "one for each slice")
            .advise("correct the slice of " + named(rule)),
        {hf});
  }
}

void Applier::make_slices() {
  for (const auto& [hf, readers] : slices_) {
    const std::int64_t count = headers_.find(hf)->second.shape.front();
    const bool whole = std::ssize(readers) == count;
    if (!whole) {
      report_unread_slices(hf, count);
    }
    const Status moved = whole ? move_slices(hf) : Status(Error{});
    for (const auto& [index, reader] : readers) {
      if (!moved) {
        leave_out(*reader.parameter, *reader.rule,
                  whole ? moved.error()
                        : not_moved(*reader.rule, hf, "of which others are read by no rule"),
                  {hf});
      }
    }
  }
}

/// Slices that nothing reads are lost, like tensors that nothing reads.
void Applier::report_unread_slices(const std::string& hf, std::int64_t count) {
  const auto& readers = slices_.at(hf);
  const auto read = static_cast<std::int64_t>(readers.size());
  std::int64_t free = 0;
  while (readers.contains(free)) {
    ++free;
  }
  out_.model.faults.push_back({Code::HfTensorUnused, shown(hf),
                               fmt::format("{} of {} read by no rule: slice {} first",
                                           counted(count - read, "slice"), shown(hf), free),
                               fmt::format("{} of {} slices are read", read, count),
                               "a rule for each slice",
                               fmt::format("add a rule with \"slice\": {}", free)});
}

Result<family::Rule> Applier::rule_of_slices(const std::string& hf) {
  const Shape& whole = headers_.find(hf)->second.shape;
  const SliceReader& first = slices_.at(hf).begin()->second;
  std::vector<std::string> names;
  std::optional<family::Rule> out;
  for (const auto& [index, reader] : slices_.at(hf)) {
    const WantedParameter& parameter = *reader.parameter;
    BV_TRY(rule, rule_for(parameter, *reader.rule, *kinds_.find(reader.rule->kind),
                          {shape_of_slice(whole)}));
    BV_CHECK(check_listed_shape(parameter, *reader.rule, rule));
    const bool one_place =
        parameter.stage == first.parameter->stage && parameter.index == first.parameter->index;
    if (rule.expert) {
      return not_moved(*reader.rule, hf, "and experts are cut by the kinds of stacks alone");
    }
    if (!one_place) {
      return for_several_layers(parameter, *first.parameter, *reader.rule, hf);
    }
    if (out && !cut_alike(*out, rule)) {
      return not_moved(*reader.rule, hf, "and others of it are cut in another way");
    }
    names.push_back(anatomy_of(parameter.name, text_prefix(rules_)).name_template);
    if (!out) {
      out = std::move(rule);
    }
  }
  const auto name = template_of(names);
  const std::string kind = whole.size() > 1 || out->kind != "replicated" ? out->kind : "single";
  const auto line = std::find_if(kinds_.sliced.begin(), kinds_.sliced.end(),
                                 [&](const auto& one) { return one.names.front() == kind; });
  if (!name || line == kinds_.sliced.end()) {
    return not_moved(*first.rule, hf, "and no line of notation says where they go");
  }
  out->megatron = *name;
  out->megatron_local.clear();
  out->megatron_sequential.clear();
  out->section = section_for(first.parameter->stage);
  out->kind = line->line.kind;
  out->axes["E"] = std::to_string(whole.front());
  out->experts = out->axes["E"];
  out->per_expert = false;
  out->sizes.clear();
  if (kind == "single") {
    out->rest.clear();
  }
  out->hf.front().first = kinds_.lines.find(out->kind)->sources.front().name;
  return *std::move(out);
}

Status Applier::move_slices(const std::string& hf) {
  const auto& readers = slices_.at(hf);
  const SliceReader& first = readers.begin()->second;
  BV_TRY(rule, rule_of_slices(hf));
  const MadeKey key = {
      nullptr, first.rule->position, rule.megatron, {headers_.find(hf)->second.shape}};
  const auto [known, fresh] = made_.try_emplace(key, family_->rules.size());
  if (fresh) {
    ++variants_[first.rule->position];
    family_->rules.push_back(std::move(rule));
  }
  if (!faults_.reads(*first.parameter, *first.rule, hf)) {
    undone_.push_back(hf);
    return Done{};
  }
  made_of_.emplace_back(first.place, known->second);
  out_.model.mappings.push_back(
      {nullptr, first.parameter->stage, first.parameter->index, -1, {hf}});
  return Done{};
}

}  // namespace bv::foreign
