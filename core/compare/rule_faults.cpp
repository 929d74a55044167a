#include "core/compare/rule_faults.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"

namespace bv::compare {
namespace {

/// One HF tensor as a matrix of rows, of one expert when it is a stack.
struct RowSource {
  int source = 0;
  std::int64_t offset = 0;  // of its first element
  std::int64_t rows = 0;
};

/// "- 1", "+ 1".
std::string signed_text(double number) {
  return fmt::format("{} {:g}", number < 0 ? '-' : '+', std::abs(number));
}

/// Do parts stand in turns, group by group, as in "g (q: n d | k: d | v: d)"?
bool has_grouped_parts(const layout::Product& product) {
  for (std::size_t i = 0; i < product.size(); ++i) {
    const auto& choices = product[i].choices;
    if (!choices.empty() &&
        (i > 0 || std::any_of(choices.begin(), choices.end(), [](const layout::Choice& choice) {
           return has_grouped_parts(choice.product);
         }))) {
      return true;
    }
  }
  return false;
}

bool has_grouped_parts(const layout::Rule& rule) {
  return std::any_of(rule.targets.begin(), rule.targets.end(), [](const auto& target) {
    return std::any_of(target.dims.begin(), target.dims.end(),
                       [](const layout::Dim& dim) { return has_grouped_parts(dim.product); });
  });
}

/// The faults of one parameter, from the boxes that make it.
class RuleFaults {
 public:
  RuleFaults(const plan::Plan& plan, const plan::Target& target,
             std::vector<checkpoint::SourceTensor> sources, DType dtype)
      : plan_(plan),
        target_(target),
        mapping_(plan.model().mappings[target.mapping]),
        bound_(plan.bound(mapping_)),
        shard_(plan.shard(target)) {
    base_.spec = {target.name, dtype, shard_.shape};
    base_.sources = std::move(sources);
    base_.add = mapping_.rule->value.added_on_import();
    tp_ = mapping_.rule->expert ? plan.layout().etp : plan.layout().tp;
  }

  [[nodiscard]] View wanted() const { return with(shard_.boxes); }

  [[nodiscard]] std::vector<Candidate> all(const TensorSpec& found) {
    if (mapping_.rule->vocabulary && found.shape != shard_.shape) {
      vocabulary(found.shape);
    }
    values();
    exchanged_parts();
    joined();
    alternating();
    other_ranks();
    return std::move(out_);
  }

 private:
  [[nodiscard]] const std::string& part_name(std::int32_t part) const {
    return bound_.part_names()[static_cast<std::size_t>(part)];
  }

  [[nodiscard]] View with(std::vector<layout::Box> boxes) const {
    View view = base_;
    view.boxes = std::move(boxes);
    return view;
  }
  void add(Cause cause, std::string text, std::vector<layout::Box> boxes) {
    out_.push_back({cause, std::move(text), with(std::move(boxes))});
  }

  /// A value-changing rule that did not compute, or computed with the other sign.
  void values() {
    if (base_.add == 0) {
      return;
    }
    for (const double sum : {0.0, -base_.add}) {
      Candidate one{Cause::PlusOne,
                    sum == 0
                        ? fmt::format("the norm is stored as w, and w {} is wanted: {:+g} of the "
                                      "zero-centred norm was not added",
                                      signed_text(base_.add), base_.add)
                        : fmt::format("the norm is stored as w {}, and w {} is wanted",
                                      signed_text(sum), signed_text(base_.add)),
                    wanted()};
      one.cause = sum > base_.add ? Cause::PlusOne : Cause::MinusOne;
      one.view.add = sum;
      out_.push_back(std::move(one));
    }
  }

  /// Any two parts of equal extent in each other's place.
  void exchanged_parts() {
    std::vector<std::int32_t> parts;
    for (const layout::Box& box : shard_.boxes) {
      if (box.source >= 0 && std::find(parts.begin(), parts.end(), box.part) == parts.end()) {
        parts.push_back(box.part);
      }
    }
    constexpr std::size_t kPartsMax = 8;
    for (std::size_t i = 0; i < std::min(parts.size(), kPartsMax); ++i) {
      for (std::size_t j = i + 1; j < std::min(parts.size(), kPartsMax); ++j) {
        exchange(parts[i], parts[j]);
      }
    }
  }

  void exchange(std::int32_t a, std::int32_t b) {
    std::vector<layout::Box> boxes = shard_.boxes;
    std::vector<layout::Box*> of_a, of_b;
    for (layout::Box& box : boxes) {
      if (box.source >= 0) {
        (box.part == a ? of_a : box.part == b ? of_b : ignored_).push_back(&box);
      }
    }
    ignored_.clear();
    const auto same_extents = [](const layout::Box* x, const layout::Box* y) {
      return std::equal(x->axes.begin(), x->axes.end(), y->axes.begin(), y->axes.end(),
                        [](const auto& p, const auto& q) { return p.extent == q.extent; });
    };
    if (of_a.size() != of_b.size() ||
        !std::equal(of_a.begin(), of_a.end(), of_b.begin(), same_extents)) {
      return;
    }
    for (std::size_t i = 0; i < of_a.size(); ++i) {
      std::swap(of_a[i]->source, of_b[i]->source);
      std::swap(of_a[i]->source_offset, of_b[i]->source_offset);
      for (std::size_t d = 0; d < of_a[i]->axes.size(); ++d) {
        std::swap(of_a[i]->axes[d].source_stride, of_b[i]->axes[d].source_stride);
      }
    }
    add(Cause::SwappedParts, fmt::format("{} and {} are exchanged", part_name(a), part_name(b)),
        std::move(boxes));
  }

  /// The HF tensors as rows of one length; empty when the shard is not made of whole rows.
  [[nodiscard]] std::vector<RowSource> row_sources(std::int64_t row) const {
    std::vector<RowSource> out;
    const auto& shapes = bound_.source_shapes();
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      Shape shape = shapes[i];
      const bool stack = mapping_.expert < 0 && target_.expert >= 0;
      if (stack && shape.size() > 1) {
        shape.erase(shape.begin());
      }
      const std::int64_t elements = element_count(shape).value_or(0);
      if (shape.empty() || elements == 0 || elements != shape[0] * row) {
        return {};
      }
      out.push_back({static_cast<int>(i), stack ? target_.expert * elements : 0, shape[0]});
    }
    return out;
  }

  [[nodiscard]] std::int64_t row_elements() const {
    const std::int64_t all = element_count(shard_.shape).value_or(0);
    return shard_.shape.empty() || shard_.shape[0] == 0 ? 0 : all / shard_.shape[0];
  }

  [[nodiscard]] static layout::Box run(const RowSource& from, std::int64_t first, std::int64_t rows,
                                       std::int64_t target_row, std::int64_t row) {
    layout::Box box;
    box.source = from.source;
    box.source_offset = from.offset + first * row;
    box.target_offset = target_row * row;
    box.axes = {{rows * row, 1, 1}};
    layout::normalise(box);
    return box;
  }

  /// HF tensors joined whole and cut once, or each cut and joined without regrouping.
  void joined() {
    const std::int64_t row = row_elements();
    const std::vector<RowSource> sources = row > 0 ? row_sources(row) : std::vector<RowSource>{};
    std::int64_t rows = 0;
    for (const RowSource& one : sources) {
      rows += one.rows;
    }
    if (sources.empty() || rows != shard_.shape[0] * tp_ || shard_.boxes.size() < 2) {
      return;
    }
    std::vector<layout::Box> block;
    std::int64_t at = -target_.t * shard_.shape[0];  // target row of the source's first row
    for (const RowSource& one : sources) {
      const std::int64_t begin = std::max<std::int64_t>(0, -at);
      const std::int64_t end = std::min(one.rows, shard_.shape[0] - at);
      if (begin < end) {
        block.push_back(run(one, begin, end - begin, at + begin, row));
      }
      at += one.rows;
    }
    if (tp_ > 1) {
      add(Cause::CutAfterJoin,
          fmt::format("the parts were joined first and then cut over {} ranks as one block", tp_),
          std::move(block));
    }
    std::vector<layout::Box> plain;
    at = 0;
    for (const RowSource& one : sources) {
      if (one.rows % tp_ != 0) {
        return;
      }
      const std::int64_t share = one.rows / tp_;
      plain.push_back(run(one, target_.t * share, share, at, row));
      at += share;
    }
    const bool attention = has_grouped_parts(bound_.rule());
    add(attention ? Cause::HeadMajor : Cause::CutAfterJoin,
        attention ? "head-major instead of group-major: all queries, then all keys, then all "
                    "values of the rank"
                  : "each HF tensor was cut as one block, its own parts were not",
        std::move(plain));
  }

  /// Rows of two equal parts in turns.
  void alternating() {
    const std::int64_t row = row_elements();
    if (shard_.boxes.size() != 2 || row == 0) {
      return;
    }
    std::vector<layout::Box> boxes = shard_.boxes;
    for (std::size_t i = 0; i < 2; ++i) {
      layout::Box& box = boxes[i];
      const std::int64_t elements = box.elements();
      const bool run = box.source >= 0 && box.axes.size() == 1 && box.axes[0].source_stride == 1;
      if (!run || elements % row != 0 || elements != boxes[1 - i].elements()) {
        return;
      }
      box.axes = {{elements / row, row, 2 * row}, {row, 1, 1}};
      box.target_offset = static_cast<std::int64_t>(i) * row;
      layout::normalise(box);
    }
    add(Cause::Alternating,
        fmt::format("rows of {} and {} alternate", part_name(boxes[0].part),
                    part_name(boxes[1].part)),
        boxes);
  }

  void other_ranks() {
    constexpr std::int64_t kRanksMax = 64;
    for (std::int64_t t = 0; t < std::min(tp_, kRanksMax); ++t) {
      if (t == target_.t) {
        continue;
      }
      plan::Target other = target_;
      other.t = t;
      auto boxes = plan_.shard(other).boxes;
      if (boxes != shard_.boxes) {
        add(Cause::OtherRank,
            fmt::format("it is the shard of {} rank {}", mapping_.rule->expert ? "ETP" : "TP", t),
            std::move(boxes));
      }
    }
  }

  /// The vocabulary padded to another size, or cut.
  void vocabulary(const Shape& found) {
    const std::int64_t row = row_elements();
    const auto sources = row > 0 ? row_sources(row) : std::vector<RowSource>{};
    if (sources.size() != 1 || found.size() != shard_.shape.size() || found.empty()) {
      return;
    }
    const auto first = checked_mul(target_.t, found[0]);
    const auto all = checked_mul(tp_, found[0]);
    if (!first || !all) {
      return;
    }
    const std::int64_t count = std::clamp<std::int64_t>(sources[0].rows - *first, 0, found[0]);
    std::vector<layout::Box> boxes;
    if (count > 0) {
      boxes.push_back(run(sources[0], *first, count, 0, row));
    }
    const bool more = *all > sources[0].rows;
    const std::int64_t wanted_rows = shard_.shape[0] * tp_;
    add(more ? Cause::Padded : Cause::Truncated,
        fmt::format("the vocabulary has {} over {}, wanted {}; HF has {}", counted(*all, "row"),
                    counted(tp_, "rank"), thousands(wanted_rows), thousands(sources[0].rows)),
        std::move(boxes));
    out_.back().view.spec.shape = found;
  }

  const plan::Plan& plan_;
  plan::Target target_;
  const model::Mapping& mapping_;
  const layout::BoundRule& bound_;
  layout::Shard shard_;
  View base_;
  std::int64_t tp_ = 1;
  std::vector<Candidate> out_;
  std::vector<layout::Box*> ignored_;
};

}  // namespace

View wanted_view(const plan::Plan& plan, const plan::Target& target,
                 const std::vector<checkpoint::SourceTensor>& sources, DType dtype) {
  return RuleFaults(plan, target, sources, dtype).wanted();
}

std::vector<Candidate> rule_faults(const plan::Plan& plan, const plan::Target& target,
                                   const std::vector<checkpoint::SourceTensor>& sources,
                                   DType dtype, const TensorSpec& found) {
  return RuleFaults(plan, target, sources, dtype).all(found);
}

}  // namespace bv::compare
