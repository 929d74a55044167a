#include "core/convert/source_prints.hpp"

#include <gtest/gtest.h>

#include <random>

#include "core/io/memory_view.hpp"
#include "tests/support/files.hpp"

namespace bv::convert {
namespace {

using checkpoint::SourceTensor;

std::string print_of(std::span<const std::byte> bytes) {
  io::Digest out;
  out.add(bytes);
  return out.hex();
}

/// Three tensors in memory.
class SourcePrintsTest : public ::testing::Test {
 protected:
  SourcePrintsTest() {
    std::mt19937 random(3);
    for (const std::int64_t elements : {6000, 40000, 1}) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(elements) * 2);
      for (std::byte& one : bytes) {
        one = static_cast<std::byte>(random());
      }
      const std::string name = "t" + std::to_string(bytes_.size());
      bytes_.push_back(std::move(bytes));
      specs_.push_back({name, DType::BF16, {elements}});
    }
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      store_.add(specs_[i], bytes_[i]);
      wanted_.push_back(print_of(bytes_[i]));
    }
    for (const TensorSpec& spec : specs_) {
      sources_.push_back({&store_, store_.find(spec.name)});
    }
  }

  std::vector<std::vector<std::byte>> bytes_;
  std::vector<TensorSpec> specs_;
  std::vector<std::string> wanted_;
  io::MemoryView store_;
  std::vector<SourceTensor> sources_;
};

/// Elements [begin, begin + rows * step) of a source: rows of `run`.
struct Read {
  int source = 0;
  std::int64_t begin = 0;
  std::int64_t rows = 1;
  std::int64_t step = 1;
  std::int64_t run = 1;
};

void note(SourcePrints::Readers& readers, const Read& read) {
  const std::vector<layout::BoxAxis> axes = {{read.rows, read.step, read.run}, {read.run, 1, 1}};
  const layout::BoxPiece piece{read.source, read.begin, 0, read.rows, axes};
  readers.note({&piece, 1});
}

TEST_F(SourcePrintsTest, AreTheSameInWhateverOrderTensorsAreRead) {
  std::mt19937 random(11);
  for (int round = 0; round < 50; ++round) {
    SourcePrints prints(sources_);
    auto readers = prints.readers(sources_);
    for (int i = 0; i < round; ++i) {
      Read read;
      read.source = static_cast<int>(random() % 3);
      const std::int64_t elements = specs_[static_cast<std::size_t>(read.source)].shape[0];
      read.begin = static_cast<std::int64_t>(random()) % elements;
      read.step = 1 + static_cast<std::int64_t>(random() % 300);
      read.run = 1 + static_cast<std::int64_t>(random() % 3);
      read.rows = 1 + (elements - read.begin - read.run) / (read.step * 2);
      if (read.begin + read.run <= elements) {
        note(readers, read);
      }
    }
    EXPECT_EQ(prints.finish(1).value(), wanted_);
  }
}

TEST_F(SourcePrintsTest, SeeAChangedElementWhereverItLies) {
  for (const std::size_t at : {0U, 7001U, 79999U}) {
    bytes_[1][at] ^= std::byte{1};
    SourcePrints prints(sources_);
    auto readers = prints.readers(sources_);
    note(readers, {.source = 1, .begin = 0, .rows = 10, .step = 4000, .run = 4000});
    const auto found = prints.finish(2).value();
    EXPECT_EQ(found[0], wanted_[0]);
    EXPECT_NE(found[1], wanted_[1]);
    bytes_[1][at] ^= std::byte{1};
  }
}

TEST_F(SourcePrintsTest, LeaveOutSourcesThatNobodyAskedFor) {
  SourcePrints prints({sources_[0]});
  auto readers = prints.readers({sources_.data() + 1, 2});
  note(readers, {.source = 0, .begin = 0, .rows = 1, .step = 1, .run = 40000});
  EXPECT_EQ(prints.finish(1).value(), std::vector{wanted_[0]});
}

}  // namespace
}  // namespace bv::convert
