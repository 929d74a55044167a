#include "core/quantised/blocks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/kinds/dequantise.hpp"

namespace bv::quantised {
namespace {

constexpr std::int64_t kDefault = 128;  // of transformers and of DeepSeek
constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

/// A weight whose scales stand in rows and columns.
struct Grid {
  const TensorSpec* bits = nullptr;
  const TensorSpec* scale = nullptr;
  std::int64_t rows = 0;  // of the weight
  std::int64_t columns = 0;
  std::int64_t down = 0;  // scales
  std::int64_t across = 0;
};

/// The sizes that explain all scales of one direction.
class Axis {
 public:
  void add(const Grid& grid, std::int64_t extent, std::int64_t parts) {
    if (const std::int64_t low = div_ceil(extent, parts);
        low > low_ || (low == low_ && comes_first(grid, least_))) {
      low_ = std::max<std::int64_t>(low, 1);
      least_ = grid;
    }
    if (parts <= 1) {
      return;
    }
    if (const std::int64_t high = (extent - 1) / (parts - 1);
        high < high_ || (high == high_ && comes_first(grid, most_))) {
      high_ = high;
      most_ = grid;
    }
    const std::int64_t even = extent % parts == 0 ? extent / parts : -1;
    even_ = even_ == 0 || even_ == even ? even : -1;
  }
  [[nodiscard]] bool is_empty() const { return low_ > high_; }
  [[nodiscard]] bool explains(std::int64_t size) const { return low_ <= size && size <= high_; }
  /// No weight has more than one scale here: every size that explains gives the same values.
  [[nodiscard]] bool is_free() const { return high_ == kNoLimit; }
  [[nodiscard]] bool is_decided() const { return is_free() || low_ == high_; }
  /// The sizes that somebody would choose, ascending.
  [[nodiscard]] std::vector<std::int64_t> candidates() const {
    if (is_free()) {
      return {std::max(kDefault, low_)};
    }
    std::set<std::int64_t> out;
    if (low_ == high_) {
      out.insert(low_);
    }
    const auto power = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(low_)));
    for (const std::int64_t size : {power, even_}) {
      if (size > 0 && explains(size)) {
        out.insert(size);
      }
    }
    return {out.begin(), out.end()};
  }
  /// "128", "100 to 199": the candidates, or all that explain.
  [[nodiscard]] std::string choice() const {
    const auto all = candidates();
    return all.size() == 2   ? fmt::format("{} or {}", all[0], all[1])
           : all.size() == 1 ? fmt::format("{}", all[0])
                             : fmt::format("{} to {}", low_, high_);
  }
  /// The weight that asks for the largest blocks, and the one that asks for the smallest.
  [[nodiscard]] const Grid& least() const { return least_; }
  [[nodiscard]] const Grid& most() const { return most_; }
  /// A weight that `size` does not explain.
  [[nodiscard]] const Grid& against(std::int64_t size) const {
    return size < low_ ? least_ : most_;
  }

 private:
  static bool comes_first(const Grid& a, const Grid& b) {
    return b.bits == nullptr || a.bits->name < b.bits->name;
  }

  std::int64_t low_ = 0;
  std::int64_t high_ = kNoLimit;
  std::int64_t even_ = 0;  // 0: no weight yet, -1: they do not agree
  Grid least_;             // asks for the low end
  Grid most_;              // asks for the high end
};

std::string shapes_of(const Grid& grid) {
  return fmt::format("{} {} with {} {}", readable(grid.bits->name), shape_text(grid.bits->shape),
                     readable(name_of(grid.scale->name).parameter), shape_text(grid.scale->shape));
}

/// What somebody who knows the size says with --set.
std::string setting(const Hints& hints, bool packed) {
  const std::string path = hints.path.empty() ? "quantization_config" : hints.path;
  if (packed) {
    return fmt::format("set group_size in {} of config.json", path);
  }
  return hints.method.empty()
             ? fmt::format(
                   "say it with --set '{}={{\"quant_method\":\"fp8\","
                   "\"weight_block_size\":[ROWS,COLUMNS]}}'",
                   path)
             : fmt::format("say it with --set '{}.weight_block_size=[ROWS,COLUMNS]'", path);
}

/// Weights of one kind, and the sizes that explain them all.
class Settling {
 public:
  void add(const Grid& grid) {
    ++count_;
    only_wholes_ = only_wholes_ && grid.down == 1 && grid.across == 1;
    rows_.add(grid, grid.rows, grid.down);
    columns_.add(grid, grid.columns, grid.across);
  }

  /// The size that holds when nothing else is said, when it explains all.
  [[nodiscard]] Blocks by_default(const Hints& hints) const {
    Blocks out;
    if (!asks()) {
      return out;
    }
    const std::string said =
        fmt::format("config.json says quant_method {} and no weight_block_size", hints.method);
    if (rows_.explains(kDefault) && columns_.explains(kDefault)) {
      out.size = {kDefault, kDefault};
      out.taken = fmt::format(
          "{}: blocks of {} x {}, the default of transformers, which explain the scales of {}",
          said, kDefault, kDefault, counted(count_, "weight"));
      return out;
    }
    const Axis& axis = rows_.explains(kDefault) ? columns_ : rows_;
    out.why = fmt::format("{}, and its default of {} x {} does not explain {}: {}", said, kDefault,
                          kDefault, shapes_of(axis.against(kDefault)), setting(hints, false));
    return out;
  }

  [[nodiscard]] Blocks by_shapes(const Hints& hints, bool packed) const {
    Blocks out;
    if (!asks()) {
      return out;
    }
    const std::string said =
        fmt::format("config.json does not say the size of the {}", packed ? "groups" : "blocks");
    if (rows_.is_empty() || columns_.is_empty()) {
      const Axis& axis = rows_.is_empty() ? rows_ : columns_;
      out.why =
          fmt::format("{}, and no single one explains both {} and {}: {}", said,
                      shapes_of(axis.least()), shapes_of(axis.most()), setting(hints, packed));
      return out;
    }
    const auto rows = rows_.candidates();
    const auto columns = columns_.candidates();
    if (rows.size() != 1 || columns.size() != 1) {
      out.why = fmt::format(
          "{}, and more than one explains the scales of {} (rows: {}, columns: {}), as of {}: {}",
          said, counted(count_, "weight"), rows_.choice(), columns_.choice(),
          shapes_of(rows.size() != 1 ? rows_.most() : columns_.most()), setting(hints, packed));
      return out;
    }
    out.size = {rows.front(), columns.front()};
    if (!rows_.is_decided() || !columns_.is_decided()) {
      out.taken = fmt::format(
          "{}: {} x {} was taken, which alone of the usual sizes explains the scales of {}", said,
          out.size[0], out.size[1], counted(count_, "weight"));
    }
    return out;
  }

 private:
  [[nodiscard]] bool asks() const { return count_ > 0 && !only_wholes_; }

  std::size_t count_ = 0;
  bool only_wholes_ = true;  // every matrix has one scale
  Axis rows_;
  Axis columns_;
};

const TensorSpec* scale_of(const Module& module, std::string_view stem) {
  std::string parameter;
  for (const std::string_view ending : scale_endings()) {
    parameter.assign(stem).append(ending);
    if (const auto found = module.find(parameter); found != module.end()) {
      return found->second;
    }
  }
  return nullptr;
}

/// nullopt when scales do not stand in rows and columns of the weight's matrices.
std::optional<Grid> grid_of(const TensorSpec& bits, const TensorSpec& scale, std::int64_t in_word) {
  const std::size_t n = bits.shape.size();
  if (n < 2 || scale.shape.size() != n ||
      !std::equal(scale.shape.begin(), scale.shape.end() - 2, bits.shape.begin())) {
    return std::nullopt;
  }
  const auto columns = checked_mul(bits.shape[n - 1], in_word);
  const std::int64_t down = scale.shape[n - 2];
  const std::int64_t across = scale.shape[n - 1];
  if (!columns || down < 1 || across < 1 || bits.shape[n - 2] < 1 || *columns < 1) {
    return std::nullopt;
  }
  return Grid{&bits, &scale, bits.shape[n - 2], *columns, down, across};
}

/// Numbers in a word of 32 bits, when config.json says one number of bits for all.
std::int64_t in_word(const Hints& hints) {
  return hints.bits == 2 || hints.bits == 4 || hints.bits == 8 ? 32 / hints.bits : 0;
}

/// May a weight have blocks whose size no field says? `packed`: of packed integers.
bool leaves_open(const Hints& hints, bool packed) {
  return hints.block.empty() && std::ranges::any_of(hints.kinds, [packed](const Kind& kind) {
           const bool fits = kind.type.empty() || (kind.type == "float") != packed;
           return fits && kind.group == 0 && kind.block.empty() && kind.strategy != "tensor" &&
                  kind.strategy != "channel";
         });
}

}  // namespace

void settle_blocks(const Modules& modules, Hints& hints) {
  Settling squares;
  Settling runs;
  Settling words;
  const bool says_nothing = hints.kinds.empty();
  const bool packed_open = leaves_open(hints, true) && in_word(hints) > 0;
  const bool float8_open = says_nothing || leaves_open(hints, false);
  for (const auto& [name, module] : modules) {
    for (const auto& [parameter, spec] : module) {
      const bool packed = spec->dtype == DType::I32 && parameter == "weight_packed";
      if (packed ? !packed_open : !float8_open || !kinds::is_float8(spec->dtype)) {
        continue;
      }
      const TensorSpec* scale = scale_of(module, packed ? "weight" : parameter);
      const auto grid =
          scale == nullptr ? std::nullopt : grid_of(*spec, *scale, packed ? in_word(hints) : 1);
      const bool by_row = grid && grid->down == grid->rows && grid->rows > 1;
      if (grid && !(by_row && grid->across == 1)) {  // one scale a row has no size of blocks
        (packed ? words : by_row ? runs : squares).add(*grid);
      }
    }
  }
  const bool fp8 = hints.method == "fp8" && !hints.block_is_null;
  hints.squares = fp8 ? squares.by_default(hints) : squares.by_shapes(hints, false);
  hints.runs = fp8 ? runs.by_default(hints) : runs.by_shapes(hints, false);
  hints.words = words.by_shapes(hints, true);
}

}  // namespace bv::quantised
