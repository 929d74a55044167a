#include <bit>
#include <limits>

#include "core/family/expression.hpp"
#include "core/model/resolve.hpp"

namespace bv::model {

Result<BoundName> BoundName::bind(const std::string& text, const family::Section& section,
                                  const Model& model) {
  BoundName out;
  out.variable_ = section.variable;
  out.symbols_ = &model.geometry.symbols;
  const auto pieces = family::split_template(text);
  BV_ASSERT(pieces.has_value());  // check_family has split it before
  if (family::root_of(*model.family, text).empty()) {
    out.pattern_ = model.prefixes.at("");
    out.parts_.emplace_back(Part::Text, out.pattern_);
  }
  const auto literal = [&out](const std::string& more) {
    out.pattern_ += more;
    if (!out.parts_.empty() && out.parts_.back().first == Part::Text) {
      out.parts_.back().second += more;
    } else {
      out.parts_.emplace_back(Part::Text, more);
    }
  };
  for (const family::TemplatePiece& piece : *pieces) {
    const auto prefix = model.prefixes.find(piece.text);
    if (!piece.braces || prefix != model.prefixes.end()) {
      literal(piece.braces ? prefix->second : piece.text);
      continue;
    }
    out.pattern_ += "{" + piece.text + "}";
    if (piece.text == section.variable) {
      out.parts_.emplace_back(Part::Index, "");
    } else if (piece.text == "e") {
      out.parts_.emplace_back(Part::Expert, "");
    } else {
      out.parts_.emplace_back(Part::Expression, piece.text);
    }
  }
  return out;
}

Result<std::string> BoundName::at(std::int64_t index, std::int64_t expert) const {
  std::string out;
  out.reserve(pattern_.size() + 8);
  for (const auto& [part, text] : parts_) {
    switch (part) {
      case Part::Text:
        out += text;
        break;
      case Part::Index:
        out += std::to_string(index);
        break;
      case Part::Expert:
        out += std::to_string(expert);
        break;
      case Part::Expression: {
        BV_TRY(
            number,
            family::evaluate_with(text, [&](std::string_view word) -> std::optional<std::int64_t> {
              if (word == variable_ || word == "e") {
                return word == "e" ? expert : index;
              }
              const auto symbol = symbols_->find(word);
              return symbol == symbols_->end() ? std::nullopt : std::optional(symbol->second);
            }));
        out += std::to_string(number);
        break;
      }
    }
  }
  return out;
}

Status for_each_name(
    const Model& model, const BoundSection& bound, const std::function<bool(const BoundRow&)>& pick,
    const std::function<void(const BoundRow&, const NamePlace&, std::string&&)>& use) {
  for (std::int64_t index = 0; index < bound.count; ++index) {
    const auto flags = section_flags(*bound.section, model.geometry, index);
    for (const BoundRow& row : bound.rows) {
      if (!pick(row) || !row.rule->is_for(index) ||
          !family::holds(*model.family, row.rule->when, {&model.geometry.symbols, &flags})) {
        continue;
      }
      for (std::int64_t expert = 0; expert < row.experts; ++expert) {
        for (std::size_t slot = 0; slot < row.hf.size(); ++slot) {
          auto name = row.hf[slot].at(index, expert);
          if (!name) {
            return family::at_place(std::move(name).error(), row.rule->source,
                                    row.rule->hf[slot].second);
          }
          use(row, {index, expert, slot}, *std::move(name));
        }
      }
    }
  }
  return Done{};
}

Ledger::Ledger(const Headers& headers) : slots_(std::bit_ceil(2 * headers.size() + 1)) {
  BV_ASSERT(headers.size() < std::numeric_limits<std::uint32_t>::max());
  tensors_.reserve(headers.size());
  for (const auto& [name, spec] : headers) {
    const std::size_t hash = std::hash<std::string_view>{}(name);
    std::size_t at = hash & (slots_.size() - 1);
    while (slots_[at].position != 0) {
      at = (at + 1) & (slots_.size() - 1);
    }
    tensors_.push_back(&spec);
    slots_[at] = {static_cast<std::uint32_t>(hash >> 32),
                  static_cast<std::uint32_t>(tensors_.size())};
  }
  users_.assign(tensors_.size(), kUnused);
}

std::optional<std::size_t> Ledger::position_of(std::string_view name) const {
  const std::size_t hash = std::hash<std::string_view>{}(name);
  for (std::size_t at = hash & (slots_.size() - 1); slots_[at].position != 0;
       at = (at + 1) & (slots_.size() - 1)) {
    const std::size_t position = slots_[at].position - 1;
    if (slots_[at].hash == static_cast<std::uint32_t>(hash >> 32) &&
        tensors_[position]->name == name) {
      return position;
    }
  }
  const auto alias = aliases_.find(name);
  return alias == aliases_.end() ? std::nullopt : std::optional(alias->second);
}

const TensorSpec* Ledger::find(std::string_view name) const {
  const auto position = position_of(name);
  return position ? tensors_[*position] : nullptr;
}

std::int64_t Ledger::claim(std::string_view name, std::int64_t mapping) {
  const auto position = position_of(name);
  BV_ASSERT(position.has_value());
  const std::int64_t before = users_[*position];
  if (before == kUnused || before == kExplained) {
    users_[*position] = mapping;
  }
  return before;
}

void Ledger::explain(std::string_view name) {
  const auto position = position_of(name);
  if (position && users_[*position] == kUnused) {
    users_[*position] = kExplained;
  }
}

void Ledger::let_stand(const std::string& wanted, const std::string& there) {
  const auto position = position_of(there);
  BV_ASSERT(position.has_value());
  aliases_.emplace(wanted, *position);
}

}  // namespace bv::model
