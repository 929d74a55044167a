#include "core/compare/division.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <numeric>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/comm/agree.hpp"
#include "core/comm/shares.hpp"
#include "core/io/digest.hpp"

namespace bv::compare {
namespace {

class Writer {
 public:
  void one(const std::string& text) { texts.push_back(text); }
  template <class Number>
  requires std::is_arithmetic_v<Number>
  void one(Number number) {
    texts.push_back(fmt::format("{}", number));  // of a double the shortest that reads back equal
  }
  void one(Cause cause) { one(static_cast<int>(cause)); }
  template <class Item>
  void one(const std::vector<Item>& items) {
    one(items.size());
    for (const Item& item : items) {
      one(item);
    }
  }
  std::vector<std::string> texts;
};

class Reader {
 public:
  Reader(std::span<const std::string> texts, std::size_t& at) : texts_(texts), at_(at) {}
  void one(std::string& text) { text = next(); }
  void one(bool& flag) { flag = next() == "true"; }
  template <class Number>
  requires std::is_arithmetic_v<Number>
  void one(Number& number) {
    const std::string text = next();
    std::from_chars(text.data(), text.data() + text.size(), number);
  }
  void one(Cause& cause) {
    int number = 0;
    one(number);
    cause = static_cast<Cause>(std::clamp(number, 0, static_cast<int>(Cause::Unexplained)));
  }
  template <class Item>
  void one(std::vector<Item>& items) {
    std::size_t size = 0;
    one(size);
    items.clear();
    for (std::size_t i = 0; i < size && at_ < texts_.size(); ++i) {
      one(items.emplace_back());
    }
  }

 private:
  std::string next() {
    const std::size_t at = at_++;
    return at < texts_.size() ? texts_[at] : "";
  }
  std::span<const std::string> texts_;
  std::size_t& at_;
};

/// Every member, in order: for the writer and the reader.
template <class Through, class Of>
void pass(Through& through, Of& of) {
  const auto all = [&through](auto&... members) { (through.one(members), ...); };
  all(of.subject, of.shape_differs, of.dtype_differs, of.values_read, of.same_bits, of.bytes_differ,
      of.values_lost, of.first, of.wanted_bits, of.found_bits, of.wanted_value, of.found_value,
      of.has_values, of.ulps, of.elements, of.elements_wrong, of.rows, of.rows_wrong,
      of.wrong_rows);
  auto& why = of.explanation;
  all(why.cause, why.text, why.rows_examined, why.rows_explained, why.exact, why.runs, why.shift);
}

std::string text_of(const TensorSpec& spec) {
  return fmt::format("{} {} {}", spec.name, bv::name(spec.dtype), shape_text(spec.shape));
}

/// Names, shapes and types of both sides.
std::string digest_of(const Comparison& comparison) {
  io::Digest digest;
  const auto add = [&digest](const std::string& text) {
    digest.add(fmt::format("{}:{}", text.size(), text));
  };
  for (const Subject& subject : comparison.subjects) {
    add(subject.tensor);
    add(subject.place);
    add(text_of(subject.spec));
    add(subject.found ? text_of(*subject.found->spec) : "nothing");
    add(fmt::format("{} {}", subject.repeats,
                    subject.shared_dtype ? bv::name(*subject.shared_dtype) : ""));
  }
  for (const Stray& stray : comparison.strays) {
    add(stray.place);
    add(text_of(*stray.found.spec));
  }
  return digest.hex();
}

}  // namespace

std::vector<std::string> as_texts(const Difference& difference) {
  Writer writer;
  pass(writer, difference);
  return std::move(writer.texts);
}

Difference difference_from(std::span<const std::string> texts, std::size_t& at) {
  Difference out;
  Reader reader(texts, at);
  pass(reader, out);
  return out;
}

Result<Division> Division::make(const Comparison& comparison, const DiffOptions& options) {
  Division out(comparison, options);
  if (options.world == nullptr) {
    out.mine_.resize(comparison.subjects.size());
    std::iota(out.mine_.begin(), out.mine_.end(), std::size_t{0});
    return out;
  }
  out.processes_ = options.processes;
  if (out.processes_.empty()) {
    std::vector<std::uint64_t> sizes;
    for (const Subject& subject : comparison.subjects) {
      sizes.push_back(tensor_bytes(subject.spec));
    }
    out.processes_ = comm::balanced(sizes, options.world->size());
  }
  BV_ASSERT(out.processes_.size() == comparison.subjects.size());
  for (std::size_t i = 0; i < out.processes_.size(); ++i) {
    if (out.processes_[i] == options.world->rank()) {
      out.mine_.push_back(i);
    }
  }
  BV_CHECK(out.agree());
  return out;
}

Status Division::agree() const {
  const comm::Fact set = {"set of tensors to compare", digest_of(comparison_)};
  BV_CHECK(comm::agree_on_facts(*options_.world, {&set, 1}));
  if (!options_.values) {
    return Done{};
  }
  return agree_on_contents([this](std::size_t i) { return std::vector{processes_[i]}; }, false);
}

Status Division::agree_on_all() const {
  if (options_.world == nullptr || !options_.values) {
    return Done{};
  }
  std::vector<int> all(static_cast<std::size_t>(options_.world->size()));
  std::iota(all.begin(), all.end(), 0);
  return agree_on_contents([&all](std::size_t) { return all; }, true);
}

Status Division::agree_on_contents(const std::function<std::vector<int>(std::size_t)>& who,
                                   bool strays) const {
  std::vector<comm::ReadTensor> tensors;
  std::map<const TensorSpec*, std::size_t> place;
  const auto add = [&](const checkpoint::SourceTensor& tensor, const std::vector<int>& ranks) {
    const auto [at, is_new] = place.try_emplace(tensor.spec, tensors.size());
    if (is_new) {
      tensors.push_back({tensor, {}});
    }
    tensors[at->second].ranks.insert(ranks.begin(), ranks.end());
  };
  for (std::size_t i = 0; i < comparison_.subjects.size(); ++i) {
    const Subject& subject = comparison_.subjects[i];
    const std::vector<int> ranks = who(i);
    for (const checkpoint::SourceTensor& source : subject.wanted().sources) {
      add(source, ranks);
    }
    if (subject.found) {
      add(*subject.found, ranks);
    }
  }
  for (std::size_t i = 0; strays && i < comparison_.strays.size(); ++i) {
    add(comparison_.strays[i].found, who(comparison_.subjects.size() + i));
  }
  return comm::agree_on_contents(*options_.world, tensors, options_.jobs, options_.progress);
}

void Division::tells_progress(bool tells) const {
  if (options_.world != nullptr && options_.progress != nullptr) {
    options_.world->work_untold(!tells);
  }
}

std::vector<std::size_t> Division::mine_of(std::span<Difference* const> differences) const {
  std::vector<std::size_t> out(differences.size());
  std::iota(out.begin(), out.end(), std::size_t{0});
  if (options_.world == nullptr) {
    return out;
  }
  std::vector<std::uint64_t> sizes;
  for (const Difference* one : differences) {
    sizes.push_back(static_cast<std::uint64_t>(one->elements));
  }
  const std::vector<int> process = comm::balanced(sizes, options_.world->size());
  std::erase_if(out, [&](std::size_t i) { return process[i] != options_.world->rank(); });
  return out;
}

Status Division::unite(DiffReport& report) const {
  if (options_.world == nullptr) {
    return Done{};
  }
  Writer mine;
  mine.one(report.equal);
  mine.one(report.recast);
  mine.one(report.shared);
  mine.one(report.bytes_compared);
  for (const Difference& one : report.differences) {
    pass(mine, one);
  }
  BV_TRY(all, comm::exchanged(*options_.world, mine.texts, "what differs"));
  report = {};
  for (const std::vector<std::string>& texts : all) {
    DiffReport part;
    std::size_t at = 0;
    Reader reader(texts, at);
    reader.one(part.equal);
    reader.one(part.recast);
    reader.one(part.shared);
    reader.one(part.bytes_compared);
    report.equal += part.equal;
    report.recast += part.recast;
    report.shared += part.shared;
    report.bytes_compared += part.bytes_compared;
    while (at < texts.size()) {
      report.differences.push_back(difference_from(texts, at));
    }
  }
  return Done{};
}

Status Division::unite(std::span<Difference* const> differences,
                       std::span<const std::size_t> mine) const {
  if (options_.world == nullptr) {
    return Done{};
  }
  Writer writer;
  for (const std::size_t i : mine) {
    writer.one(i);
    pass(writer, std::as_const(*differences[i]));
  }
  BV_TRY(all, comm::exchanged(*options_.world, writer.texts, "why it differs"));
  for (const std::vector<std::string>& texts : all) {
    for (std::size_t at = 0; at < texts.size();) {
      std::size_t i = differences.size();
      Reader(texts, at).one(i);
      Difference one = difference_from(texts, at);
      if (i < differences.size()) {
        *differences[i] = std::move(one);
      }
    }
  }
  return Done{};
}

}  // namespace bv::compare
