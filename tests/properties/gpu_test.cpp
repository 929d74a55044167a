// The claim gpu: a device that is right, ones that are wrong or away, and the GPU of this machine.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <set>

#include "core/comm/group.hpp"
#include "core/comm/nccl.hpp"
#include "core/comm/threads.hpp"
#include "core/cuda/cuda.hpp"
#include "core/cuda/staged_executor.hpp"
#include "core/merge/merge_product.hpp"
#include "core/move/tensor_maker.hpp"
#include "core/plan/layout_set.hpp"
#include "properties/claims/catalogue.hpp"
#include "tests/core/cuda/host_device.hpp"
#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::claims {
namespace {

using ::testing::HasSubstr;
constexpr std::size_t kSmallLane = std::size_t{1} << 20;

/// The processor, which changes one byte of what it made when it has made so many tasks.
class FaultyExecutor : public move::Executor {
 public:
  explicit FaultyExecutor(int faulty_task) : faulty_task_(faulty_task) {}
  Status run(std::span<const move::MoveTask> tasks) override {
    for (const move::MoveTask& task : tasks) {
      BV_CHECK(right_.run({&task, 1}));
      if (++made_ == faulty_task_) {
        task.target[0] ^= std::byte{1};
      }
    }
    return Done{};
  }

 private:
  move::CpuExecutor right_;
  int faulty_task_;
  int made_ = 0;
};

class LostDevice : public move::Executor {
 public:
  Status run(std::span<const move::MoveTask> /*tasks*/) override {
    return fail(Code::NoGpu, "the GPU fell off the bus").advise("reset it");
  }
};

struct World {
  checkpoint::HfModel model;
  Subject subject;
};

/// Those that check judges where none is asked for: all that are legal up to 8 ranks, at most 64.
constexpr std::int64_t kRanks = 8;
constexpr std::size_t kLayouts = 64;

std::unique_ptr<World> world_of(checkpoint::HfModel model, move::Executor* device,
                                std::string_view dtype = "preserve",
                                std::size_t layouts = kLayouts) {
  auto out = std::make_unique<World>();
  out->model = std::move(model);
  out->subject.parts = {{&out->model}};
  out->subject.kinds = &support::catalogue();
  out->subject.dtype = plan::dtype_policy(dtype).value();
  out->subject.layouts = plan::layouts_up_to(out->model.model, {}, kRanks, layouts).layouts;
  out->subject.budget.device = device;
  return out;
}

std::unique_ptr<World> world_of(const std::string& name, move::Executor* device,
                                std::string_view dtype = "preserve",
                                std::size_t layouts = kLayouts) {
  return world_of(support::open_golden(name), device, dtype, layouts);
}

void expect_held(const std::string& name, move::Executor& device, std::string_view dtype) {
  const auto world = world_of(name, &device, dtype);
  const auto verdicts = judged(*find_claim("gpu"), world->subject);
  EXPECT_FALSE(verdicts.empty());
  for (const Verdict& one : verdicts) {
    EXPECT_TRUE(one.outcome == Outcome::Held || one.outcome == Outcome::Unsupported)
        << name << " " << one.id() << ": " << one.title << " found " << one.found << " wanted "
        << one.wanted;
  }
}

TEST(GpuClaim, HoldsForTheKernelOnTheHostAndEveryGolden) {
  cuda::StagedExecutor device(std::make_unique<cuda::testing::HostDevice>(), kSmallLane);
  for (const std::string& name : support::golden_cases()) {
    expect_held(name, device, "preserve");
  }
  for (const char* name : {"qwen3_next", "gemma3_text", "qwen3_moe_packed", "gpt_oss"}) {
    expect_held(name, device, "float32");
    expect_held(name, device, "float16");
  }
}

TEST(GpuClaim, HoldsForWeightsThatAreDequantised) {
  support::EditedCheckpoint edited = support::EditedCheckpoint::golden("llama");
  for (auto& [name, tensor] : support::EditedCheckpoint(edited).tensors) {
    if (name.find("_proj.weight") != std::string::npos) {
      auto& codes = edited.tensors.at(name);
      codes.dtype = DType::F8E4M3;
      codes.bytes.resize(codes.bytes.size() / static_cast<std::size_t>(bytes(tensor.dtype)));
      const float scale = 0.5F;
      support::EditedTensor scales{DType::F32, {}, std::vector<std::byte>(sizeof scale)};
      std::memcpy(scales.bytes.data(), &scale, sizeof scale);
      edited.tensors[name + "_scale"] = std::move(scales);
    }
  }
  const support::TempFolder folder;
  edited.write(folder.path());
  cuda::StagedExecutor device(std::make_unique<cuda::testing::HostDevice>());
  checkpoint::OpenOptions options;
  options.dequantise = DType::F32;
  auto model = checkpoint::open_hf(folder.path(), support::families(), options);
  ASSERT_TRUE(model) << (model ? "" : model.error().message);
  ASSERT_FALSE(model->dequantised.empty());
  const auto world = world_of(std::move(*model), &device, "float32");
  const auto verdicts = judged(*find_claim("gpu"), world->subject);
  EXPECT_FALSE(verdicts.empty());
  for (const Verdict& one : verdicts) {
    EXPECT_EQ(one.outcome, Outcome::Held) << one.id() << ": " << one.title;
  }
}

TEST(GpuClaim, IsRefutedByOneWrongByte) {
  for (const int faulty : {1, 5, 20}) {
    FaultyExecutor device(faulty);
    const auto world = world_of("llama", &device, "preserve", 1);
    std::int64_t refuted = 0;
    for (const Verdict& one : judged(*find_claim("gpu"), world->subject)) {
      if (one.outcome == Outcome::Refuted) {
        refuted += one.refuted_cases;
        EXPECT_THAT(one.title, HasSubstr("differently from the processor"));
        EXPECT_NE(one.found, one.wanted);
        ASSERT_EQ(one.counterexamples.size(), 1U);
      }
    }
    EXPECT_EQ(refuted, 1) << faulty;
  }
}

TEST(GpuClaim, IsUndecidedWithoutADeviceAndWhenItFails) {
  LostDevice lost;
  for (move::Executor* device :
       {static_cast<move::Executor*>(nullptr), static_cast<move::Executor*>(&lost)}) {
    const auto world = world_of("llama", device);
    for (const Verdict& one : judged(*find_claim("gpu"), world->subject)) {
      EXPECT_EQ(one.outcome, Outcome::Inconclusive);
      EXPECT_EQ(one.code, Code::NoGpu);
      EXPECT_FALSE(one.help.empty());
    }
  }
}

/// The processor, which fails for ever from a task on.
class DyingExecutor : public move::Executor {
 public:
  explicit DyingExecutor(int last_task) : left_(last_task) {}
  Status run(std::span<const move::MoveTask> tasks) override {
    if (left_-- <= 0) {
      return fail(Code::NoGpu, "the GPU fell off the bus").advise("reset it");
    }
    return right_.run(tasks);
  }

 private:
  move::CpuExecutor right_;
  int left_;
};

/// A device that fails says nothing of the elements: never a refutation, and never a pass.
TEST(BytesClaim, IsUndecidedWhereTheDeviceFailsAtAnyTask) {
  for (const char* const name : {"llama", "of_poison"}) {
    support::EditedCheckpoint edited = support::EditedCheckpoint::golden("llama");
    for (auto& [tensor, content] : edited.tensors) {
      if (std::string_view(name) == "of_poison") {  // each window is filled twice
        std::fill(content.bytes.begin(), content.bytes.end(), std::byte{0xA5});
      }
    }
    const support::TempFolder folder;
    edited.write(folder.path());
    std::int64_t undecided = 0;
    for (int last = 0; last < 12; ++last) {
      auto model = checkpoint::open_hf(folder.path(), support::families(), {});
      ASSERT_TRUE(model) << model.error().message;
      DyingExecutor device(last);
      const auto world = world_of(std::move(*model), &device, "preserve", 2);
      for (const Verdict& one : judged(*find_claim("bytes"), world->subject)) {
        EXPECT_NE(one.outcome, Outcome::Refuted) << last << " " << one.title;
        EXPECT_NE(one.outcome, Outcome::Broken) << last << " " << one.title;
        undecided += one.outcome == Outcome::Inconclusive && one.code == Code::NoGpu ? 1 : 0;
      }
    }
    EXPECT_GT(undecided, 12) << name;
  }
}

/// A merge and a transpose on a device, against the processor's; the host as a device tries the
/// test.
void expect_merge_of_the_processor(cuda::Device& device) {
  std::mt19937 random(31);
  std::normal_distribution<float> values(0, 1);
  for (const auto& [rows, columns, rank] :
       {std::tuple(129, 200, 17), {64, 64, 16}, {1, 300, 64}, {257, 65, 3}}) {
    std::vector<float> left(static_cast<std::size_t>(rows * rank));
    std::vector<float> right(static_cast<std::size_t>(rank * columns));
    std::vector<float> base(static_cast<std::size_t>(rows * columns));
    for (auto* all : {&left, &right, &base}) {
      for (float& one : *all) {
        one = values(random);
      }
    }
    const auto raw = [](auto& list) { return std::as_writable_bytes(std::span(list)); };
    std::vector<float> wanted(base.size());
    std::vector<float> found(base.size());
    const std::int64_t step = columns * 4;
    const lora::MergeProduct product({raw(left).data(), DType::F32, rows, rank, rank, 1},
                                     {raw(right).data(), DType::F32, rank, columns, columns, 1},
                                     0.7F);
    ASSERT_FALSE(product.add_to(lora::best_merge_isa(), DType::F32,
                                {0, rows, raw(base).data(), raw(wanted).data(), step, step}));
    const std::size_t at_right = raw(left).size();
    const std::size_t at_base = at_right + raw(right).size();
    ASSERT_TRUE(device.reserve(0, at_base + raw(base).size()));
    std::byte* const memory = device.memory(0);
    ASSERT_TRUE(device.upload(0, 0, raw(left)));
    ASSERT_TRUE(device.upload(0, at_right, raw(right)));
    ASSERT_TRUE(device.upload(0, at_base, raw(base)));
    const cuda::MergeBlock block{memory,
                                 memory + at_right,
                                 memory + at_base,
                                 memory + at_base,
                                 rows,
                                 columns,
                                 rank,
                                 DType::F32,
                                 DType::F32,
                                 0.7F};
    ASSERT_TRUE(device.merge(0, block));
    ASSERT_TRUE(device.download(0, at_base, raw(found)));
    ASSERT_TRUE(device.wait(0));
    EXPECT_EQ(std::memcmp(found.data(), wanted.data(), raw(found).size()), 0)
        << rows << " x " << columns << " rank " << rank;
  }
}

void expect_transposes_of_the_processor(move::Executor& executor) {
  std::mt19937_64 random(33);
  for (const auto& [dtype, to, add] : {std::tuple(DType::BF16, DType::BF16, 0.0),
                                       {DType::U8, DType::U8, 0.0},
                                       {DType::BF16, DType::F32, 1.0},
                                       {DType::F64, DType::F64, 0.0}}) {
    const std::int64_t rows = 517;
    const std::int64_t columns = 300;
    std::vector<std::byte> source(static_cast<std::size_t>(3 * rows * columns * bytes(dtype)));
    for (std::byte& one : source) {
      one = static_cast<std::byte>(random());
    }
    move::Recipe recipe;
    recipe.dtype = to;
    recipe.elements = 3 * rows * columns;
    recipe.add = add;
    recipe.sources = {{source.data(), dtype}};
    recipe.boxes = {
        {0, 0, 0, {{3, rows * columns, rows * columns}, {columns, 1, rows}, {rows, columns, 1}}}};
    std::vector<std::byte> wanted(static_cast<std::size_t>(recipe.elements * bytes(to)));
    std::vector<std::byte> found(wanted.size(), std::byte{0x5A});
    move::TensorMaker by_processor(recipe);
    move::TensorMaker by_device(recipe, &executor);
    ASSERT_TRUE(by_processor.make(ElementOffset(0), ElementOffset(recipe.elements), wanted.data()));
    ASSERT_TRUE(by_device.make(ElementOffset(0), ElementOffset(recipe.elements), found.data()));
    EXPECT_TRUE(wanted == found) << name(dtype) << " to " << name(to);
  }
}

TEST(GpuKernels, OnTheHostMergeAndTurnAsTheProcessorDoes) {
  cuda::testing::HostDevice device;
  expect_merge_of_the_processor(device);
  cuda::StagedExecutor executor(std::make_unique<cuda::testing::HostDevice>(),
                                std::size_t{8} << 20);
  expect_transposes_of_the_processor(executor);
}

/// The GPU of this machine.
class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    auto device = cuda::open_device(0);
    if (!device) {
      GTEST_SKIP() << "NOT RUN ON A GPU: " << device.error().found;
    }
    device_ = std::make_unique<cuda::StagedExecutor>(std::move(*device));
  }
  std::unique_ptr<cuda::StagedExecutor> device_;
};

/// BV_GPU_ROWS: rows and columns of the large tensors, an even number. The host in place of a GPU
/// moves fewer.
std::int64_t large_rows() {
  const char* const text = std::getenv("BV_GPU_ROWS");
  return text == nullptr ? 4096 : std::strtoll(text, nullptr, 10);
}

TEST_F(Gpu, GivesTheBitsOfTheProcessorForEveryGolden) {
  auto device = cuda::open_device(0);
  ASSERT_TRUE(device);
  cuda::StagedExecutor small(std::move(*device), kSmallLane);  // models of some hundred KiB
  for (const std::string& name : support::golden_cases()) {
    expect_held(name, small, "preserve");
    expect_held(name, small, "float32");
  }
}

TEST_F(Gpu, MergesAndTurnsAsTheProcessorDoes) {
  auto device = cuda::open_device(0);
  ASSERT_TRUE(device);
  expect_merge_of_the_processor(**device);
  expect_transposes_of_the_processor(*device_);
}

/// A world of one, and one with a rank on each GPU of this machine.
TEST_F(Gpu, CarriesCollectivesByNccl) {
  constexpr comm::Milliseconds kPatience{60000};
  if (const auto nccl = comm::open_nccl(0, kPatience); !nccl) {
    GTEST_SKIP() << "NCCL IS NOT HERE: " << nccl.error().message << ": " << nccl.error().found;
  }
  const auto devices = static_cast<int>(cuda::look_around().devices.size());
  for (const int size : std::set<int>{1, devices}) {
    const auto ends = comm::run_world(size, kPatience, [&](comm::Link& link) -> Status {
      BV_TRY(maker, comm::open_nccl(link.rank(), kPatience));
      link.carry_by(maker);
      comm::Group world = comm::whole_world(link);
      const auto bytes_of_rank = [](int rank) {
        return comm::Bytes(std::size_t{1} << 20, static_cast<std::byte>(rank + 1));
      };
      BV_TRY(all, world.all_gather(bytes_of_rank(link.rank()), "bytes"));
      std::vector<comm::Bytes> parts;
      for (int rank = 0; rank < size; ++rank) {
        EXPECT_EQ(all[static_cast<std::size_t>(rank)], bytes_of_rank(rank));
        if (link.rank() == 0) {
          parts.push_back(bytes_of_rank(rank + 100));
        }
      }
      BV_TRY(mine, world.scatter(0, parts, "parts"));
      EXPECT_EQ(mine, bytes_of_rank(link.rank() + 100));
      BV_TRY(told, world.broadcast(size - 1, bytes_of_rank(7), "told"));
      EXPECT_EQ(told, bytes_of_rank(7));
      return Done{};
    });
    for (const Status& end : ends) {
      EXPECT_TRUE(end) << size << " ranks: " << end.error().message << " " << end.error().found;
    }
  }
}

TEST_F(Gpu, GivesTheBitsOfTheProcessorForLargeRandomTensors) {
  std::mt19937_64 random(9);
  const std::int64_t rows = large_rows();
  std::vector<std::byte> source(static_cast<std::size_t>(rows * rows * 2));
  for (std::size_t i = 0; i + 8 <= source.size(); i += 8) {
    const std::uint64_t bits = random();
    std::memcpy(&source[i], &bits, sizeof bits);
  }
  for (const auto& [dtype, add] :
       {std::pair(DType::BF16, 0.0), {DType::F32, 0.0}, {DType::BF16, 1.0}, {DType::F32, -1.0}}) {
    move::Recipe recipe;
    recipe.dtype = dtype;
    recipe.elements = rows * rows;
    recipe.add = add;
    recipe.sources = {{source.data(), DType::BF16}};
    recipe.boxes = {{0, 0, 0, {{rows / 2, rows * 2, rows}, {rows, 1, 1}}},
                    {0, rows, rows * rows / 2, {{rows / 2, rows * 2, rows}, {rows, 1, 1}}}};
    std::vector<std::byte> wanted(static_cast<std::size_t>(recipe.elements * bytes(dtype)));
    std::vector<std::byte> found(wanted.size(), std::byte{0x5A});
    move::TensorMaker by_processor(recipe);
    move::TensorMaker by_device(recipe, device_.get());
    ASSERT_TRUE(by_processor.make(ElementOffset(0), ElementOffset(recipe.elements), wanted.data()));
    const auto made =
        by_device.make(ElementOffset(0), ElementOffset(recipe.elements), found.data());
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_TRUE(wanted == found) << name(dtype) << " " << add;
  }
}

}  // namespace
}  // namespace bv::claims
