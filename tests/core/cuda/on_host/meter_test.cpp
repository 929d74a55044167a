// What benchmarks call: every function once, and every call of the runtime failing in turn.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/cuda/meter.hpp"
#include "tests/support/cuda/fake_cuda.hpp"

namespace bv::cuda {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

/// A copy, an upload, moves and a merge, as bv_gpu_bench asks for them.
Status measure_all() {
  BV_TRY(meter, open_meter(0));
  BV_TRY(from, meter->allocate(100000));
  BV_TRY(to, meter->allocate(100000));
  BV_TRY(copied, meter->copy(to, from, 100000, 2));
  BV_TRY(uploaded, meter->upload(to, 100000, 2));
  Move move;
  move.box.source = 0;
  move.box.axes = {{1000, 1, 1}};
  move.source = from;
  move.target = to;
  MoveList list{{move}, 1000, {}, 0};
  BV_TRY(moved, meter->moves(list, 2));
  MergeBlock block{from, from, to, to, 64, 70, 8, DType::BF16, DType::BF16, 0.5F};
  BV_TRY(merged, meter->merge(block, 2));
  EXPECT_GT(copied, 0);
  EXPECT_GT(uploaded, 0);
  EXPECT_GT(moved, 0);
  EXPECT_GT(merged, 0);
  meter->release();
  return Done{};
}

TEST(MeterOnHost, MeasuresAndGivesEverythingBack) {
  fake_cuda::choose({});
  const Status done = measure_all();
  EXPECT_TRUE(done) << done.error().message;
  EXPECT_EQ(fake_cuda::seen().kernels, 6);
  EXPECT_EQ(fake_cuda::seen().pageable_copies, 0);
  EXPECT_EQ(fake_cuda::leaks(), "");
}

TEST(MeterOnHost, EveryCallThatFailsIsAnErrorAndNothingIsLeft) {
  for (const bool stays : {false, true}) {
    long call = 0;
    do {
      fake_cuda::choose({.failing_call = ++call, .stays = stays});
      const Status done = measure_all();
      if (!done) {
        EXPECT_THAT(done.error().message,
                    AnyOf(HasSubstr("the GPU failed while"), HasSubstr("there is no GPU 0")));
      }
      EXPECT_EQ(fake_cuda::leaks(), "") << "call " << call;
    } while (call <= static_cast<long>(fake_cuda::seen().calls.size()));
    EXPECT_GT(call, 40);
  }
}

}  // namespace
}  // namespace bv::cuda
