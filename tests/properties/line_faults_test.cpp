// How many random lines it takes until a planted fault is seen: most cases are small, and faults
// that need larger sizes must not be lost by that.

#include <gtest/gtest.h>

#include <array>
#include <utility>

#include "properties/attacks/lines/line_loop.hpp"

namespace bv::lines {
namespace {

struct PlantedFault {
  const char* name;
  void (*there)(layout::Shard&);
  void (*back)(layout::Shard&);
};

void two_sources_change_places(layout::Shard& shard) {
  for (std::size_t i = 0; i + 1 < shard.boxes.size(); ++i) {
    layout::Box& a = shard.boxes[i];
    layout::Box& b = shard.boxes[i + 1];
    if (a.axes == b.axes && a.source >= 0 && b.source >= 0) {
      std::swap(a.source, b.source);
      std::swap(a.source_offset, b.source_offset);
      return;
    }
  }
}

/// Boxes for which `when` holds read one element too early.
template <class When>
void shift(layout::Shard& shard, const When& when) {
  for (layout::Box& box : shard.boxes) {
    if (box.source >= 0 && box.source_offset > 0 && when(box)) {
      --box.source_offset;
    }
  }
}

void the_fourth_box_is_shifted(layout::Shard& shard) {
  shift(shard, [&](const layout::Box& box) { return &box - shard.boxes.data() == 3; });
}
void far_sources_are_shifted(layout::Shard& shard) {
  shift(shard, [](const layout::Box& box) { return box.source_offset >= 200; });
}
void long_runs_are_shifted(layout::Shard& shard) {
  shift(shard, [](const layout::Box& box) {
    return !box.axes.empty() && box.axes.back().target_stride == 1 && box.axes.back().extent >= 33;
  });
}
void axes_of_five_are_shifted(layout::Shard& shard) {
  shift(shard, [](const layout::Box& box) {
    return !box.axes.empty() && box.axes.front().extent % 5 == 0;
  });
}
void four_axes_are_shifted(layout::Shard& shard) {
  shift(shard, [](const layout::Box& box) { return box.axes.size() >= 4; });
}
void large_boxes_are_shifted(layout::Shard& shard) {
  shift(shard, [](const layout::Box& box) { return box.elements() >= 300; });
}
/// The two outer axes of a box change places: equal for square ones only.
void axes_change_places(layout::Shard& shard) {
  for (layout::Box& box : shard.boxes) {
    if (box.axes.size() >= 2 && box.axes[0].extent != box.axes[1].extent) {
      std::swap(box.axes[0].source_stride, box.axes[1].source_stride);
      return;
    }
  }
}
void the_last_of_a_run_is_lost(layout::Shard& shard) {
  for (layout::Box& box : shard.boxes) {
    if (!box.axes.empty() && box.axes.back().extent > 16) {
      --box.axes.back().extent;
    }
  }
}

constexpr std::array kFaults = {
    PlantedFault{"two sources change places", nullptr, two_sources_change_places},
    PlantedFault{"the fourth box is shifted", the_fourth_box_is_shifted, nullptr},
    PlantedFault{"far sources are shifted", far_sources_are_shifted, nullptr},
    PlantedFault{"long runs are shifted", nullptr, long_runs_are_shifted},
    PlantedFault{"axes of five are shifted", axes_of_five_are_shifted, nullptr},
    PlantedFault{"four axes are shifted", nullptr, four_axes_are_shifted},
    PlantedFault{"large boxes are shifted", large_boxes_are_shifted, nullptr},
    PlantedFault{"axes change places", nullptr, axes_change_places},
    PlantedFault{"the last of a run is lost", the_last_of_a_run_is_lost, nullptr},
};

constexpr std::uint64_t kSeeds = 40;

/// Cases until the fault is seen, the mean over the seeds.
double cases_until_seen(const PlantedFault& fault, std::uint64_t small_of_eight) {
  std::int64_t all = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    LineLoop loop(seed, small_of_eight);
    if (fault.there != nullptr) {
      loop.runner().plant_there(fault.there);
    }
    if (fault.back != nullptr) {
      loop.runner().plant_back(fault.back);
    }
    while (!loop.fails_next()) {
    }
    all += loop.cases();
  }
  return static_cast<double>(all) / static_cast<double>(kSeeds);
}

// A case of the mixture costs 0.65 of one of all sizes, so that 1.5 times as many are as quick.
TEST(LineFaults, AreSeenWithinTwiceTheCasesOfAllSizes) {
  for (const PlantedFault& fault : kFaults) {
    const double all_sizes = cases_until_seen(fault, 0);
    const double mixed = cases_until_seen(fault, kSmallOfEight);
    EXPECT_LE(mixed, 2 * all_sizes) << fault.name;
  }
}

TEST(LineFaults, AreSeenInTheSameCaseWithTheSameSeed) {
  const auto cases = [](std::uint64_t seed) {
    LineLoop loop(seed);
    loop.runner().plant_there(far_sources_are_shifted);
    while (!loop.fails_next()) {
    }
    return std::pair(loop.cases(), loop.runner().bytes());
  };
  EXPECT_EQ(cases(7), cases(7));
  EXPECT_NE(cases(7), cases(8));
}

}  // namespace
}  // namespace bv::lines
