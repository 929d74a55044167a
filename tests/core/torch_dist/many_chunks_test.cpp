// Checkpoints of many ranks: ten thousand chunks are opened, planned and read in well under a
// second.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstring>

#include "core/base/arith.hpp"
#include "core/checkpoint/source_tensor.hpp"
#include "core/pickle/archive_writer.hpp"
#include "core/pickle/crc32.hpp"
#include "core/torch_dist/store.hpp"
#include "tests/core/torch_dist/golden_copy.hpp"
#include "tests/support/files.hpp"

namespace bv::torch_dist {
namespace {

constexpr std::int64_t kGrid = 100;  // chunks along each of two dimensions
constexpr std::int64_t kRows = 2;    // of one chunk
constexpr std::int64_t kColumns = 3;

std::uint16_t element(std::int64_t row, std::int64_t column) {
  return static_cast<std::uint16_t>((row * 613 + column * 7 + 1) % 30011);
}

/// A tensor [200, 300] of BF16 in a grid of chunks, in the order of nobody: files of 97 items.
void write_grid(const std::filesystem::path& folder, std::size_t lacking) {
  Metadata metadata;
  StoredTensor& tensor = metadata.tensors["w"];
  tensor.spec = {"w", DType::BF16, {kGrid * kRows, kGrid * kColumns}};
  const pickle::ArchiveWriter archive = pickle::tensor_archive(DType::BF16, {kRows, kColumns});
  std::string text;
  std::size_t file = 0;
  for (std::int64_t i = 0; i < kGrid * kGrid; ++i) {
    const std::int64_t number = i * 3701 % (kGrid * kGrid);
    const Shape origin = {number / kGrid * kRows, number % kGrid * kColumns};
    std::string data(kRows * kColumns * 2, '\0');
    for (std::int64_t k = 0; k < kRows * kColumns; ++k) {
      const std::uint16_t bits = element(origin[0] + k / kColumns, origin[1] + k % kColumns);
      std::memcpy(data.data() + k * 2, &bits, sizeof bits);
    }
    const std::string item = std::string(archive.head()) + data +
                             archive.tail(pickle::crc32(std::as_bytes(std::span(data))));
    const std::string name = "__" + std::to_string(file) + "_0.distcp";
    if (static_cast<std::size_t>(number) != lacking) {
      tensor.chunks.push_back({{origin, {kRows, kColumns}}, {name, text.size(), item.size()}});
    }
    text += item;
    if (i % 97 == 96 || i + 1 == kGrid * kGrid) {
      spill(folder / name, text);
      text.clear();
      ++file;
    }
  }
  spill(folder / ".metadata",
        metadata_text(metadata, "iter_0000000", "00000000-0000-4000-8000-000000000000"));
  spill(folder / "metadata.json", format_text());
  spill(folder / "common.pt", common_file());
}

double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(ManyChunks, TenThousandArePlannedAndReadAsOneTensor) {
  const support::TempFolder temp;
  write_grid(temp.path(), kGrid * kGrid);
  std::optional<DistCheckpoint> store;
  const double open = seconds([&] { store.emplace(DistCheckpoint::open(temp.path()).value()); });
  const TensorSpec& spec = *store->find("w");
  EXPECT_EQ(store->chunks(spec).size(), static_cast<std::size_t>(kGrid * kGrid));
  // Every third column, transposed: each window lies in hundreds of chunks.
  const std::int64_t rows = spec.shape[0];
  const std::int64_t columns = spec.shape[1] / 3;
  layout::Box box;
  box.axes = {{columns, 3, rows}, {rows, spec.shape[1], 1}};
  const checkpoint::SourceTensor source{&*store, &spec};
  std::vector<std::uint16_t> found(static_cast<std::size_t>(rows * columns));
  std::optional<move::TensorMaker> maker;
  const double plan = seconds([&] {
    maker.emplace(checkpoint::over_chunks({DType::BF16, rows * columns, {box}, {}}, {{source}}));
  });
  const double read = seconds([&] {
    for (std::int64_t at = 0; at < rows * columns; at += 4096) {
      const std::int64_t end = std::min(at + 4096, rows * columns);
      ASSERT_TRUE(maker->make(ElementOffset(at), ElementOffset(end),
                              reinterpret_cast<std::byte*>(found.data() + at)));
    }
  });
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    ASSERT_EQ(found[static_cast<std::size_t>(i)], element(i % rows, i / rows * 3)) << i;
  }
  std::printf("10,000 chunks: opened in %.3f s, planned in %.3f s, read in %.3f s\n", open, plan,
              read);
  EXPECT_LT(plan, 5);  // of a build without optimisation, on a machine that others use
  EXPECT_LT(open, 20);
}

TEST(ManyChunks, OneThatIsNotThereAmongTenThousandIsNamed) {
  const support::TempFolder temp;
  write_grid(temp.path(), 4242);
  const auto refused = DistCheckpoint::open(temp.path());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::ChunksInvalid);
  EXPECT_NE(refused.error().message.find("\"w\""), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace bv::torch_dist
