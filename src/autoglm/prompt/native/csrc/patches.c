// Patch rows of a picture, normalised, in one pass: what the published layout's vision tower reads.
#include <stdint.h>
#include <string.h>

enum { ABI = 1, CHANNELS = 3 };

int autoglm_patches_abi(void) { return ABI; }

// image: [grid_h * size][grid_w * size][3] bytes. table: [3][256], the normalised value of each byte.
// out: a row a patch, in blocks of merge x merge; in a row channel, frame, y, x; frames are copies of one another.
void autoglm_patch_rows(const uint8_t *image, int grid_h, int grid_w, int size, int merge, int frames, const float *table,
                        float *out) {
  const int64_t line = (int64_t)grid_w * size * CHANNELS;
  const int64_t area = (int64_t)size * size;
  for (int row = 0; row < grid_h; row += merge)
    for (int column = 0; column < grid_w; column += merge)
      for (int inner = 0; inner < merge * merge; inner++) {
        const int y = (row + inner / merge) * size, x = (column + inner % merge) * size;
        const uint8_t *patch = image + y * line + (int64_t)x * CHANNELS;
        float *red = out, *green = out + frames * area, *blue = out + 2 * frames * area;
        for (int i = 0; i < size; i++, patch += line)
          for (int j = 0; j < size; j++) {
            const uint8_t *pixel = patch + j * CHANNELS;
            red[i * size + j] = table[pixel[0]];
            green[i * size + j] = table[256 + pixel[1]];
            blue[i * size + j] = table[512 + pixel[2]];
          }
        for (int channel = 0; channel < CHANNELS; channel++) {
          float *first = out + channel * frames * area;
          for (int frame = 1; frame < frames; frame++) memcpy(first + frame * area, first, area * sizeof *first);
        }
        out += CHANNELS * frames * area;
      }
}
