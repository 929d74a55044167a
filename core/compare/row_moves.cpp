// What the numbers of moved rows and the names of two tensors say.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/compare/explain_diff.hpp"

namespace bv::compare {
namespace {

/// Gate and up of one pair hold each other's rows.
bool gate_and_up(std::string_view a, std::string_view b) {
  constexpr std::array kPairs = {std::pair{"gate_proj", "up_proj"}, std::pair{"w1", "w3"}};
  return std::any_of(kPairs.begin(), kPairs.end(), [&](const auto& pair) {
    return (a == pair.first && b == pair.second) || (a == pair.second && b == pair.first);
  });
}

std::vector<std::string_view> words_of_name(std::string_view text) {
  std::vector<std::string_view> out;
  while (true) {
    const std::size_t dot = text.find('.');
    out.push_back(text.substr(0, dot));
    if (dot == std::string_view::npos) {
      return out;
    }
    text.remove_prefix(dot + 1);
  }
}

/// "weight12" -> ("weight", 12); "12" -> ("", 12).
std::optional<std::pair<std::string_view, std::int64_t>> numbered(std::string_view word) {
  constexpr std::size_t kDigitsMax = 9;
  std::size_t at = word.size();
  while (at > 0 && word[at - 1] >= '0' && word[at - 1] <= '9') {
    --at;
  }
  if (at == word.size() || word.size() - at > kDigitsMax) {
    return std::nullopt;
  }
  return std::pair(word.substr(0, at), std::stoll(std::string(word.substr(at))));
}

/// "decoder.layers.3.mlp.linear_fc1.weight": what stands before "layers", the number, the rest.
struct LayerName {
  bool mtp = false;
  std::string_view number;
  std::vector<std::string_view> rest;
};
std::optional<LayerName> layer_name(const std::vector<std::string_view>& words) {
  constexpr std::array kWrappers = {"mtp_model_layer", "transformer_layer"};
  const auto at = std::find(words.begin(), words.end(), "layers");
  if (at == words.end() || std::next(at) == words.end() || !numbered(*std::next(at))) {
    return std::nullopt;
  }
  LayerName out{std::find(words.begin(), at, "mtp") != at, *std::next(at), {at + 2, words.end()}};
  if (out.mtp && !out.rest.empty() &&
      std::find(kWrappers.begin(), kWrappers.end(), out.rest.front()) != kWrappers.end()) {
    out.rest.erase(out.rest.begin());
  }
  return out;
}

/// A layer of the decoder where one of multi-token prediction is wanted, or the other way round.
std::optional<NameShift> across_mtp(const std::vector<std::string_view>& wanted,
                                    const std::vector<std::string_view>& found) {
  const auto a = layer_name(wanted);
  const auto b = layer_name(found);
  if (!a || !b || a->mtp == b->mtp || a->rest != b->rest) {
    return std::nullopt;
  }
  return NameShift{
      Cause::OtherLayer,
      a->mtp ? fmt::format(": layer {} of the decoder for MTP layer {}, which was "
                           "copied from it and not written again",
                           b->number, a->number)
             : fmt::format(": MTP layer {} for layer {} of the decoder", b->number, a->number)};
}

}  // namespace

bool is_mtp(std::string_view name) {
  const auto layer = layer_name(words_of_name(name));
  return layer && layer->mtp;
}

NameShift compare_names(std::string_view wanted, std::string_view found) {
  if (wanted == found) {
    return {Cause::OtherRank, ""};
  }
  const auto a = words_of_name(wanted);
  const auto b = words_of_name(found);
  if (auto shift = across_mtp(a, b)) {
    return *shift;
  }
  std::vector<std::size_t> differing;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (a[i] != b[i]) {
      differing.push_back(i);
    }
  }
  if (a.size() != b.size() || differing.size() != 1) {
    return {Cause::OtherTensor, ""};
  }
  const std::size_t at = differing.front();
  const auto from = numbered(a[at]);
  const auto to = numbered(b[at]);
  if (from && to && from->first == to->first) {
    const bool expert =
        !from->first.empty() || (at > 0 && a[at - 1].find("experts") != std::string_view::npos);
    return {expert ? Cause::OtherExpert : Cause::OtherLayer,
            fmt::format(": {} {} for {}, off by {:+d}", expert ? "expert" : "layer", to->second,
                        from->second, to->second - from->second),
            to->second - from->second};
  }
  if (gate_and_up(a[at], b[at])) {
    return {Cause::SwappedParts, ": gate and up are exchanged"};
  }
  return {Cause::OtherTensor, ""};
}

namespace {

std::int64_t explained_by(const Regrouping& how, const std::vector<RowMove>& moves) {
  constexpr std::size_t kFirst = 16;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < moves.size(); ++i) {
    const std::int64_t z = moves[i].found % how.inner;
    std::int64_t rest = moves[i].found / how.inner;
    const std::int64_t x = rest % how.a;
    rest /= how.a;
    const std::int64_t y = rest % how.b;
    const std::int64_t o = rest / how.b;
    count += moves[i].wanted == ((o * how.a + x) * how.b + y) * how.inner + z;
    if (i + 1 == kFirst && count < static_cast<std::int64_t>(kFirst / 4)) {
      return 0;
    }
  }
  return count;
}

std::vector<std::int64_t> divisors_of(std::int64_t number) {
  std::vector<std::int64_t> out;
  for (std::int64_t d = 1; d * d <= number; ++d) {
    if (number % d == 0) {
      out.push_back(d);
      if (d != number / d) {
        out.push_back(number / d);
      }
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

Regrouping find_regrouping(std::int64_t rows, const std::vector<RowMove>& moves) {
  constexpr std::size_t kTriesMax = 20000;
  Regrouping best;
  if (rows < 4 || rows > kRegroupedRowsMax || moves.empty()) {
    return best;
  }
  std::size_t tries = 0;
  for (const std::int64_t outer : divisors_of(rows)) {
    for (const std::int64_t inner : divisors_of(rows / outer)) {
      const std::int64_t block = rows / outer / inner;
      for (const std::int64_t a : divisors_of(block)) {
        if (a == 1 || a == block || ++tries > kTriesMax) {
          continue;
        }
        Regrouping how{outer, a, block / a, inner, 0};
        how.explained = explained_by(how, moves);
        if (how.explained > best.explained) {
          best = how;
        }
      }
    }
  }
  return best.explained * 2 >= static_cast<std::int64_t>(moves.size()) ? best : Regrouping{};
}

HalvesExchanged find_exchange(std::int64_t rows, const std::vector<RowMove>& moves) {
  HalvesExchanged best;
  for (const std::int64_t block : divisors_of(std::min(rows, kRegroupedRowsMax))) {
    if (block % 2 != 0 || rows % block != 0 || rows > kRegroupedRowsMax) {
      continue;
    }
    const auto count = std::count_if(moves.begin(), moves.end(), [block](const RowMove& move) {
      const std::int64_t at = move.found % block;
      return move.wanted == move.found - at + (at + block / 2) % block;
    });
    if (count > best.explained) {
      best = {block, count};
    }
  }
  return best.explained * 2 >= static_cast<std::int64_t>(moves.size()) ? best : HalvesExchanged{};
}

}  // namespace bv::compare
