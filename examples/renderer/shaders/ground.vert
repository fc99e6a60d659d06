layout(push_constant) uniform Tile { vec4 corner; } tile;  // x, z, 1 / side
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in float light;
layout(location = 0) out vec3 place;
layout(location = 1) out vec3 up;
layout(location = 2) out vec3 texel;

void main() {
    place = position;
    up = normal;
    texel = vec3((position.xz - tile.corner.xy) * tile.corner.z, light);
    gl_Position = scene.view_projection * vec4(position, 1.0);
}
